"""The state of a rerun whose ID the user chose."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.records import circumstances, ingredients
from tests.records import record as a_record
from trainer.base.errors import RunError, UsageError
from trainer.cli.reproduce.existing import existing_rerun, is_resumable, rerun_folder
from trainer.runs.open_run import OpenRun, open_run
from trainer.runs.record import Knowledge, Outcome, RunStatus
from trainer.runs.run import load_record
from trainer.runs.run_id import new_run_id

if TYPE_CHECKING:
    from pathlib import Path

ORIGINAL = a_record()


def open_rerun(runs: Path, *, retest_of: str | None = ORIGINAL.run) -> OpenRun:
    """Open the first attempt of a rerun."""
    folder = runs / new_run_id()
    folder.mkdir(parents=True)
    return open_run(folder, ingredients=ingredients(), circumstances=circumstances(retest_of=retest_of))


def test_a_new_rerun_gets_its_folder(runs: Path) -> None:
    folder = runs / new_run_id()
    found = existing_rerun(folder, ORIGINAL, own=True)
    assert (found.is_begun, found.image, folder.is_dir(), is_resumable(folder)) == (False, None, True, False)


def test_a_rerun_that_was_killed_on_another_machine_is_closed_and_resumed(runs: Path) -> None:
    opened = open_rerun(runs)
    folder = opened.folder.parents[1]
    assert opened.lifeline is not None
    os.close(opened.lifeline)
    found = existing_rerun(folder, ORIGINAL, own=False)
    assert (found.is_begun, found.image, is_resumable(folder)) == (True, None, False)
    assert load_record(opened.folder / "record.json").outcome.status is RunStatus.INTERRUPTED
    (opened.folder / "checkpoints").mkdir()
    (opened.folder / "checkpoints" / "latest.json").write_text("{}")
    assert is_resumable(folder)


def test_a_completed_rerun_is_only_compared(runs: Path) -> None:
    opened = open_rerun(runs)
    opened.close(Outcome(status=RunStatus.COMPLETED, metrics={}, steps=1))
    found = existing_rerun(opened.folder.parents[1], ORIGINAL, own=False)
    assert (found.is_begun, found.image) == (False, Knowledge.UNKNOWN)
    assert is_resumable(found.folder)


def test_a_run_that_is_no_rerun_of_this_run_is_rejected(runs: Path) -> None:
    for other in (None, new_run_id()):
        with pytest.raises(RunError, match=f"is not a rerun of run {ORIGINAL.run}"):
            existing_rerun(open_rerun(runs, retest_of=other).folder.parents[1], ORIGINAL, own=True)


@pytest.mark.parametrize("word", ["latest", "../20260301t120005-abcdef", ""])
def test_a_word_that_is_no_id_is_rejected(word: str) -> None:
    with pytest.raises(UsageError, match="expected the ID of a new or an existing rerun"):
        rerun_folder(word)
