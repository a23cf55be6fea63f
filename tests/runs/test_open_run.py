"""An attempt and its record, from opening to closing."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.records import circumstances, ingredients
from tests.runs.runs import finish_run, start_run
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DiskFullError, RepriseError, RunError
from trainer.runs import open_run as open_run_module
from trainer.runs.open_run import is_alive, open_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.run import attempts, new_run, record_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_opening_writes_a_record_with_status_running(tmp_path: Path) -> None:
    run = start_run(tmp_path / "runs")
    record = record_of(run.folder.parents[1])
    assert (record, record.outcome.status, record.attempt) == (run.record, RunStatus.RUNNING, 1)


def test_closing_lists_every_file_by_digest(tmp_path: Path) -> None:
    run = finish_run(tmp_path / "runs")
    (weights, metrics) = record_of(run.folder.parents[1]).outcome.files
    assert (weights.path, weights.size, weights.sha256) == (
        "checkpoints/last.ckpt",
        700,
        digest_of_bytes(b"weights" * 100),
    )
    assert metrics.path == "metrics.jsonl"
    assert not [path for path in run.folder.iterdir() if path.name.startswith(".")]


def test_links_in_a_run_folder_are_not_followed(tmp_path: Path) -> None:
    run = start_run(tmp_path / "runs")
    (run.folder / "passwords").symlink_to("/etc/passwd")
    assert run.close(Outcome(status=RunStatus.COMPLETED)).outcome.files == []


def test_an_attempt_with_other_ingredients_is_rejected(tmp_path: Path) -> None:
    folder = finish_run(tmp_path / "runs", status=RunStatus.PREEMPTED).folder.parents[1]
    same = record_of(folder).ingredients
    with pytest.raises(RunError, match="its ingredients have changed"):
        open_run(folder, ingredients=ingredients(experiment="other"), circumstances=circumstances())
    assert open_run(folder, ingredients=same, circumstances=circumstances()).record.attempt == 2
    assert attempts(folder) == [1, 2]


def test_concurrent_opens_never_share_an_attempt(tmp_path: Path) -> None:
    _, folder = new_run(tmp_path)

    def claim(_: int) -> int | RepriseError:
        try:
            return open_run(folder, ingredients=ingredients(), circumstances=circumstances()).record.attempt
        except RepriseError as fault:
            return fault

    with ThreadPoolExecutor(8) as pool:
        won = [number for number in pool.map(claim, range(8)) if isinstance(number, int)]
    assert won
    assert len(set(won)) == len(won)


def test_a_visible_record_always_has_a_live_process(tmp_path: Path) -> None:
    """The lock is taken before the record is written, since another process could otherwise close a starting run as killed."""
    _, folder = new_run(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        for number in range(1, 9):
            place = folder / "attempts" / str(number)

            def is_complete(place: Path = place) -> bool:
                while not (place / "record.json").exists():
                    pass
                return is_alive(place)

            watcher = pool.submit(is_complete)
            opened = open_run(folder, ingredients=ingredients(), circumstances=circumstances())
            assert watcher.result(timeout=60)
            opened.release()
            assert not is_alive(place)


def test_a_run_cannot_be_closed_as_running(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        start_run(tmp_path / "runs").close(Outcome(status=RunStatus.RUNNING))


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    if os.getuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield small
    subprocess.run(["umount", str(small)], check=True)


def fill_disk(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 12))


def test_the_record_can_be_closed_on_a_full_disk(full_disk: Path) -> None:
    run = start_run(full_disk / "runs")
    fill_disk(full_disk)
    with pytest.raises(DiskFullError):
        run.update(outcome=Outcome(status=RunStatus.RUNNING, reason="x" * 5000))
    assert record_of(run.folder.parents[1]).outcome.reason is None
    run.close(Outcome(status=RunStatus.FAILED, reason="no space left"))
    assert record_of(run.folder.parents[1]).outcome.status is RunStatus.FAILED


def test_too_many_files_are_an_error_and_the_record_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_run_module, "MOST_FILES", 2)
    run = start_run(tmp_path / "runs")
    for name in "abc":
        (run.folder / name).write_bytes(b"x")
    with pytest.raises(RunError, match="has 3 files; its record lists the first 2"):
        run.close(Outcome(status=RunStatus.COMPLETED))
    assert [file.path for file in record_of(run.folder.parents[1]).outcome.files] == ["a", "b"]
