"""Notes of several processes in one file."""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

from trainer.settings.ledger import Notes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # later Pythons warn about threads


def forked(notes: Notes, *places: str, end: int = 0) -> int:
    """Add notes in a forked process that exits or kills itself; return its status."""
    child = os.fork()
    if child == 0:
        for place in places:
            notes.add("read", "width", place)
        if end:
            os.kill(os.getpid(), end)
            time.sleep(60)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def test_notes_of_a_forked_process_are_recorded() -> None:
    notes = Notes()
    notes.add("read", "width", "here")
    assert forked(notes, "here", "there", "there") == 0
    assert forked(notes, "there", "elsewhere") == 0
    assert notes.book("read") == {"width": ["here", "there", "elsewhere"]}
    assert notes.book("bound") == {}


def test_notes_of_a_killed_process_are_not_lost() -> None:
    notes = Notes()
    assert os.WTERMSIG(forked(notes, "there", end=signal.SIGKILL)) == signal.SIGKILL
    assert notes.book("read") == {"width": ["there"]}


def test_an_incomplete_line_is_skipped() -> None:
    notes = Notes()
    forked(notes, "a")
    assert notes._file is not None
    os.write(notes._file, b'["read", "wid')
    forked(notes, "b")
    forked(notes, "c")
    assert notes.book("read") == {"width": ["a", "c"]}


def test_notes_can_be_passed_to_a_spawned_process() -> None:
    notes = Notes()
    notes.add("read", "width", "here")
    other: Notes = pickle.loads(pickle.dumps(notes))  # noqa: S301 - pickled by this test
    other.add("read", "width", "there")
    assert (other.book("read"), notes.book("read")) == ({"width": ["here", "there"]}, {"width": ["here"]})


def test_no_file_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    notes = Notes()
    forked(notes, "there")
    assert list(tmp_path.iterdir()) == []
    handle = notes._file
    assert handle is not None
    del notes
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)
