"""Pulling a run that is partly on this machine, and the progress reports of a pull."""

from __future__ import annotations

import errno
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.records import ingredients
from tests.runs.runs import finish_run
from tests.runs.test_pull import contents, packed_files, run, store_with_altered_seal
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, MachineError
from trainer.base.safe_folder import Root
from trainer.runs.open_run import open_run
from trainer.runs.publish import publish_run
from trainer.runs.pull import EDITED, pull_run
from trainer.runs.record import Outcome, RunStatus, identity_of
from trainer.runs.seal import Sealed, claim_key, sealed_key
from trainer.source.capture import ARCHIVE, COPY, archive, capture
from trainer.stores.contract import object_key
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.runs.open_run import OpenRun

__all__ = ["run"]


class ProgressRecorder:
    def __init__(self) -> None:
        self.total, self.seen, self.ended = 0, 0, 0
        self.lines: list[str] = []

    def begin(self, title: str, total: int) -> None:
        assert title
        self.total = total

    def advance(self, size: int) -> None:
        self.seen += size

    def end(self) -> None:
        self.ended += 1

    def note(self, line: str) -> None:
        self.lines.append(line)


def test_a_valid_bundle_of_other_code_is_rejected(run: OpenRun, tmp_path: Path) -> None:
    other = finish_run(tmp_path / "other" / "runs").folder.parents[1]
    (other / COPY / "code.py").write_text("evil = 1\n")
    text = archive(capture(other / COPY))

    def change(seal: dict[str, Any]) -> None:
        seal["source"] = {"path": ARCHIVE, "size": len(text), "sha256": digest_of_bytes(text)}

    store = store_with_altered_seal(run, change)
    store.create(object_key(digest_of_bytes(text)), text)
    with pytest.raises(
        DigestMismatchError, match=r"the source bundle of run .* is sha256:.*; its record names sha256:"
    ):
        pull_run(run.record.run, store, runs=tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


def test_a_claimed_attempt_without_a_seal_is_skipped(run: OpenRun, tmp_path: Path) -> None:
    store, home = MemoryStore(), run.folder.parents[1]
    second = open_run(home, ingredients=run.record.ingredients, circumstances=run.record.circumstances)
    second.close(Outcome(status=RunStatus.COMPLETED))
    publish_run(home, store)
    del store._objects[sealed_key(run.record.run, 1)]
    assert [record.attempt for record in pull_run(run.record.run, store, runs=tmp_path / "there")] == [2]


def test_attempts_after_the_first_unclaimed_number_are_not_looked_up(
    run: OpenRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    requested: set[str] = set()
    publish_run(run.folder.parents[1], store)
    size = store.size

    def recorded(key: str) -> int | None:
        requested.add(key)
        return size(key)

    monkeypatch.setattr(store, "size", recorded)
    pull_run(run.record.run, store, runs=tmp_path / "there")
    assert sealed_key(run.record.run, 2) in requested
    assert sealed_key(run.record.run, 3) not in requested


def test_a_failed_rename_fails_the_pull_unless_the_file_exists(
    run: OpenRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "cross-device link")

    publish_run(run.folder.parents[1], store := MemoryStore())
    monkeypatch.setattr(Root, "rename", fails)
    with pytest.raises(MachineError, match="cross-device"):
        pull_run(run.record.run, store, runs=tmp_path / "there")


def test_a_pull_of_exactly_the_maximum_is_allowed(run: OpenRun, tmp_path: Path) -> None:
    store, name = MemoryStore(), run.record.run
    publish_run(run.folder.parents[1], store)
    sealed = json.loads(b"".join(store.read(sealed_key(name, 1))))
    size = sum(file["size"] for file in [*sealed["files"], sealed["source"]])
    with pytest.raises(DigestMismatchError, match="at most"):
        pull_run(name, store, runs=tmp_path / "there", largest=size - 1)
    assert pull_run(name, store, runs=tmp_path / "there", largest=size)


def test_damaged_and_missing_files_are_restored_and_reported(run: OpenRun) -> None:
    store, home = MemoryStore(), run.folder.parents[1]
    publish_run(home, store)
    before, result = contents(home), ProgressRecorder()
    shutil.rmtree(run.folder / "checkpoints")
    (run.folder / "metrics.jsonl").write_text("other")
    pull_run(run.record.run, store, runs=home.parent, progress=result)
    assert contents(home) == before
    assert [line.rpartition("/")[2] for line in result.lines] == ["last.ckpt", "metrics.jsonl"]
    assert [path.name for path in home.parent.iterdir()] == [home.name]


def test_another_attempt_with_the_number_of_a_local_one_does_not_change_it(run: OpenRun) -> None:
    """The local attempt was never published, and the store has another seal of the same number."""
    store = MemoryStore()
    publish_run(run.folder.parents[1], store)
    (run.folder / "published.json").unlink()
    path = run.folder / "record.json"
    path.write_bytes(mine := path.read_bytes().replace(b'"steps":10', b'"steps":11'))
    with pytest.raises(DigestMismatchError, match=r"attempt 1 of run .* differs from the attempt in memory"):
        pull_run(run.record.run, store, runs=run.folder.parents[2])
    assert path.read_bytes() == mine


def test_a_pull_reports_its_total_size(run: OpenRun, tmp_path: Path) -> None:
    store, result = MemoryStore(), ProgressRecorder()
    publish_run(run.folder.parents[1], store)
    pull_run(run.record.run, store, runs=tmp_path / "there", progress=result)
    size = sum(file.size for file in run.record.outcome.files)
    assert (result.total, result.seen, result.ended) == (size, size, 1)


def test_an_attempt_with_other_ingredients_is_not_added_to_a_local_run(run: OpenRun) -> None:
    store, home, before = MemoryStore(), run.folder.parents[1], contents(run.folder.parents[1])
    other = ingredients(experiment="other")
    second = run.record.model_copy(update={"attempt": 2, "ingredients": other, "identity": identity_of(other)})
    store.create(claim_key(home.name, 1), b"{}")
    store.create(sealed_key(home.name, 2), Sealed(record=json.loads(second.to_json()), files=[]).to_json())
    with pytest.raises(DigestMismatchError, match="2 identities"):
        pull_run(home.name, store, runs=home.parent)
    assert contents(home) == before


def test_a_restored_record_is_reported(run: OpenRun) -> None:
    store, result, path = MemoryStore(), ProgressRecorder(), run.folder / "record.json"
    publish_run(run.folder.parents[1], store)
    pull_run(run.record.run, store, runs=run.folder.parents[2], progress=result)
    assert (result.lines, (run.folder / EDITED).exists()) == ([], False)
    path.write_bytes(path.read_bytes().replace(b'"steps":10', b'"steps":11'))
    pull_run(run.record.run, store, runs=run.folder.parents[2], progress=result)
    assert result.lines == [f"restored: {path}; the edited record is kept as {EDITED}"]


class OvertakenStore(MemoryStore):
    """A store from which another process pulls the run during this pull."""

    def __init__(self, runs: Path) -> None:
        super().__init__()
        self.runs, self.other = runs, MemoryStore()

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        if key.endswith("/1/claim.json"):
            pull_run(key.split("/")[1], self.other, runs=self.runs)
        return super().read(key, start=start, length=length)


def test_two_concurrent_pulls_both_succeed(run: OpenRun, tmp_path: Path) -> None:
    runs, home = tmp_path / "new" / "runs", run.folder.parents[1]
    store = OvertakenStore(runs)
    for each in (store, store.other):
        publish_run(home, each)
    (run.folder / "published.json").unlink()
    assert [record.attempt for record in pull_run(run.record.run, store, runs=runs)] == [1]
    assert [path.name for path in runs.iterdir()] == [home.name]
    names = {path for path in packed_files(home) if path != "attempts/1/published.json"}
    assert names <= contents(runs / home.name).keys()
