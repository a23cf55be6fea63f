"""Pulling runs, including manipulated runs."""

from __future__ import annotations

import json
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.records import ingredients
from tests.runs.runs import finish_run
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, DocumentError, RepriseError, RunNotFoundError, SourceError
from trainer.runs.open_run import open_run
from trainer.runs.publish import publish_run
from trainer.runs.pull import EDITED_ARCHIVE, pull_run
from trainer.runs.record import Outcome, RunStatus, identity_of
from trainer.runs.run import record_of
from trainer.runs.seal import Sealed, claim_key, sealed_key
from trainer.runs.verify import require_intact
from trainer.source.capture import ARCHIVE, COPY, capture, read_archive
from trainer.stores.contract import object_key
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.runs.open_run import OpenRun


@pytest.fixture
def run(tmp_path: Path) -> OpenRun:
    return finish_run(tmp_path / "here" / "runs")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def packed_files(folder: Path) -> dict[str, bytes]:
    """Return the files that a pull creates: all files of a run except the unpacked source."""
    return {path: data for path, data in contents(folder).items() if not path.startswith(f"{COPY}/")}


def test_a_published_run_is_pulled_byte_for_byte(run: OpenRun, tmp_path: Path) -> None:
    store, home = MemoryStore(), run.folder.parents[1]
    publish_run(home, store)
    (record,) = pull_run(run.record.run, store, runs=tmp_path / "there")
    assert record == run.record
    assert contents(tmp_path / "there" / record.run) == packed_files(home)
    assert [path.name for path in (tmp_path / "there").iterdir()] == [record.run]


def test_every_attempt_is_pulled_and_local_attempts_stay(run: OpenRun, tmp_path: Path) -> None:
    store, home = MemoryStore(), run.folder.parents[1]
    publish_run(home, store)
    pull_run(run.record.run, store, runs=tmp_path / "there")
    second = open_run(home, ingredients=run.record.ingredients, circumstances=run.record.circumstances)
    second.close(Outcome(status=RunStatus.COMPLETED))
    publish_run(home, store)
    mark = tmp_path / "there" / run.record.run / "attempts" / "1" / "mine.txt"
    mark.write_text("kept")
    assert [record.attempt for record in pull_run(run.record.run, store, runs=tmp_path / "there")] == [1, 2]
    assert mark.read_text() == "kept"
    assert record_of(tmp_path / "there" / run.record.run).attempt == 2


@pytest.mark.parametrize("here", [False, True])
def test_attempts_with_another_identity_are_rejected(run: OpenRun, tmp_path: Path, *, here: bool) -> None:
    store, name = MemoryStore(), run.record.run
    publish_run(run.folder.parents[1], store)
    if here:
        pull_run(name, store, runs=tmp_path / "there")
    before = contents(tmp_path / "there") if here else {}
    other = ingredients(experiment="other")
    second = run.record.model_copy(update={"attempt": 2, "ingredients": other, "identity": identity_of(other)})
    store.create(claim_key(name, 2), b"{}")
    store.create(sealed_key(name, 2), Sealed(record=json.loads(second.to_json()), files=[]).to_json())
    with pytest.raises(DigestMismatchError, match="2 identities"):
        pull_run(name, store, runs=tmp_path / "there")
    assert (contents(tmp_path / "there") if (tmp_path / "there").exists() else {}) == before


def test_a_local_source_that_differs_from_the_seal_is_rejected(run: OpenRun, tmp_path: Path) -> None:
    store = MemoryStore()
    publish_run(run.folder.parents[1], store)
    home = tmp_path / "there" / run.record.run
    home.mkdir(parents=True)
    (home / ARCHIVE).write_bytes(b"other")
    with pytest.raises(DigestMismatchError, match="2 source bundles"):
        pull_run(run.record.run, store, runs=tmp_path / "there")
    assert contents(home) == {ARCHIVE: b"other"}


@pytest.mark.parametrize("harm", [b"other", None], ids=["altered", "missing"])
def test_the_published_source_is_restored(run: OpenRun, harm: bytes | None) -> None:
    store, home = MemoryStore(), run.folder.parents[1]
    publish_run(home, store)
    good = (home / ARCHIVE).read_bytes()
    (home / ARCHIVE).unlink() if harm is None else (home / ARCHIVE).write_bytes(harm)
    pull_run(run.record.run, store, runs=home.parent)
    assert (home / ARCHIVE).read_bytes() == good
    assert require_intact(run.folder, run.record) == 2
    assert [path.read_bytes() for path in home.glob(EDITED_ARCHIVE)] == ([] if harm is None else [harm])


def test_a_source_that_differs_from_that_of_an_unpublished_attempt_is_rejected(run: OpenRun) -> None:
    store, home = MemoryStore(), run.folder.parents[1]
    publish_run(home, store)
    (run.folder / "published.json").unlink()
    (home / ARCHIVE).write_bytes(b"other")
    with pytest.raises(DigestMismatchError, match="2 source bundles"):
        pull_run(run.record.run, store, runs=home.parent)
    assert (home / ARCHIVE).read_bytes() == b"other"


def test_a_pull_killed_after_the_source_is_completed(run: OpenRun, tmp_path: Path) -> None:
    store, home = MemoryStore(), run.folder.parents[1]
    publish_run(home, store)
    there = tmp_path / "there" / run.record.run
    there.mkdir(parents=True)
    shutil.copy2(home / ARCHIVE, there / ARCHIVE)
    pull_run(run.record.run, store, runs=tmp_path / "there")
    assert contents(there) == packed_files(home)


def test_a_missing_run_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match="20260301t120000-aaaaaa"):
        pull_run("20260301t120000-aaaaaa", MemoryStore(), runs=tmp_path)
    assert not list(tmp_path.iterdir())


def store_with_altered_seal(run: OpenRun, change: Callable[[dict[str, Any]], None]) -> MemoryStore:
    """Return a store in which the seal of `run` was altered by `change`."""
    honest, store = MemoryStore(), MemoryStore()
    publish_run(run.folder.parents[1], honest)
    key = sealed_key(run.record.run, 1)
    sealed = json.loads(b"".join(honest.read(key)))
    change(sealed)
    for name in honest.keys("objects/"):
        store.create(name, b"".join(honest.read(name)))
    store.create(claim_key(run.record.run, 1), b"".join(honest.read(claim_key(run.record.run, 1))))
    store.create(key, json.dumps(sealed).encode())
    return store


HARM: dict[str, Callable[[dict[str, Any]], None]] = {
    "a path that leaves": lambda seal: seal["files"][0].update(path="../../../evil"),
    "an absolute path": lambda seal: seal["files"][0].update(path="/evil"),
    "our own record": lambda seal: seal["files"][0].update(path="record.json"),
    "a file twice": lambda seal: seal["files"].append(seal["files"][0]),
    "a file as a folder": lambda seal: seal["files"].append(seal["files"][1] | {"path": "metrics.jsonl/x"}),
    "another size": lambda seal: seal["files"][0].update(size=3),
    "a negative size": lambda seal: seal["files"][0].update(size=-1),
    "an enormous size": lambda seal: seal["files"][0].update(size=1 << 60),
    "other ingredients": lambda seal: seal["record"]["ingredients"].update(experiment="other"),
    "another run": lambda seal: seal["record"].update(run="20260301t120000-aaaaaa"),
    "another format": lambda seal: seal["record"].update(format="reprise.run/99"),
    "another seal": lambda seal: seal.update(format="reprise.sealed/99"),
    "an unknown key": lambda seal: seal["record"].update(surprise=1),
    "another source": lambda seal: seal["source"].update(
        sha256=seal["files"][0]["sha256"], size=seal["files"][0]["size"]
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_malicious_seal_writes_nothing(run: OpenRun, tmp_path: Path, harm: str) -> None:
    store = store_with_altered_seal(run, HARM[harm])
    with pytest.raises(RepriseError) as error:
        pull_run(run.record.run, store, runs=tmp_path / "there")
    assert error.value.code != 1
    assert not contents(tmp_path / "there") if (tmp_path / "there").exists() else True
    assert not (tmp_path / "evil").exists()


def test_a_negative_size_does_not_offset_an_enormous_one(run: OpenRun, tmp_path: Path) -> None:

    def cheat(seal: dict[str, Any]) -> None:
        seal["files"][0].update(size=1 << 60)
        seal["files"][1].update(size=-(1 << 60))

    with pytest.raises(DocumentError, match="size"):
        pull_run(run.record.run, store_with_altered_seal(run, cheat), runs=tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_a_later_format_is_rejected_with_a_hint(run: OpenRun, tmp_path: Path) -> None:
    store = store_with_altered_seal(run, HARM["another format"])
    with pytest.raises(DocumentError, match=r"reads 'reprise\.run/1'") as error:
        pull_run(run.record.run, store, runs=tmp_path / "there")
    assert "newer" in str(error.value.hint)


def test_an_endless_seal_is_rejected_early(run: OpenRun, tmp_path: Path) -> None:
    for text, message in [(b" " * (33 << 20), "larger than"), (b"[" * 1_000_000, "too many nested brackets")]:
        store = MemoryStore()
        store.create(sealed_key(run.record.run, 1), text)
        with pytest.raises((DigestMismatchError, DocumentError), match=message):
            pull_run(run.record.run, store, runs=tmp_path / "there")


def write_archive(path: Path, *entries: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, target in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target.decode()
            tar.addfile(entry)
    return path


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_a_source_bundle_may_contain_only_files(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(SourceError):
        read_archive(write_archive(tmp_path / "x", ("a", b"/etc/passwd"), kind=kind))


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b"])
def test_paths_of_a_source_bundle_stay_in_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError):
        read_archive(write_archive(tmp_path / "x", (name, b"")))


@pytest.mark.parametrize("size", [1 << 40, 1 << 20])
def test_a_source_bundle_may_not_claim_more_bytes_than_it_has(tmp_path: Path, size: int) -> None:
    """A sparse file of 1 kB could expand to 1 TB of zeros."""
    with tarfile.open(tmp_path / "x", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("a")
        entry.pax_headers = {"GNU.sparse.size": str(size), "GNU.sparse.map": f"{size},0"}
        tar.addfile(entry)
    with pytest.raises(SourceError, match="sparse"):
        read_archive(tmp_path / "x")


def test_a_damaged_source_bundle_is_an_error(tmp_path: Path) -> None:
    whole = write_archive(tmp_path / "whole", ("a", b"")).read_bytes()
    for text in [b"", b"text", whole[: len(whole) // 2]]:
        (tmp_path / "x").write_bytes(text)
        with pytest.raises(SourceError):
            read_archive(tmp_path / "x")
    with pytest.raises(SourceError, match="twice"):
        read_archive(write_archive(tmp_path / "x", ("a", b""), ("a", b"")))


def test_a_bundle_read_from_its_archive_has_the_same_digest(run: OpenRun) -> None:
    home = run.folder.parents[1]
    assert (
        read_archive(home / "source.tar.gz").digest == run.record.ingredients.source == capture(home / "source").digest
    )


def test_an_altered_object_in_the_store_is_detected(run: OpenRun, tmp_path: Path) -> None:
    honest, store = MemoryStore(), MemoryStore()
    publish_run(run.folder.parents[1], honest)
    victim = object_key(digest_of_bytes(b"weights" * 100))
    for name in honest.keys(""):
        store.create(name, b"x" * 700 if name == victim else b"".join(honest.read(name)))
    with pytest.raises(DigestMismatchError, match=r"last\.ckpt"):
        pull_run(run.record.run, store, runs=tmp_path / "there")


def test_more_than_the_maximum_is_not_pulled(run: OpenRun, tmp_path: Path) -> None:
    store = MemoryStore()
    publish_run(run.folder.parents[1], store)
    with pytest.raises(DigestMismatchError, match="at most") as error:
        pull_run(run.record.run, store, runs=tmp_path / "there", largest=100)
    assert "--max-bytes" in str(error.value.hint)
