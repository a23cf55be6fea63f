"""Notes of several processes in one book."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.notes import Notes

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*fork:DeprecationWarning"
)  # later Pythons warn where there are threads


def forked(notes: Notes, *places: str, end: int = 0) -> int:
    """Note places in a forked process, which then ends, or kills itself; give its status."""
    child = os.fork()
    if child == 0:
        for place in places:
            notes.add("read", "width", place)
        if end:
            os.kill(os.getpid(), end)
            time.sleep(60)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def test_what_a_forked_process_notes_is_in_the_book() -> None:
    """Each place once, in order; before it was forked, after, and of each."""
    notes = Notes()
    notes.add("read", "width", "here")
    assert forked(notes, "here", "there", "there") == 0
    assert forked(notes, "there", "elsewhere") == 0
    assert notes.book("read") == {"width": ["here", "there", "elsewhere"]}
    assert notes.book("bound") == {}


def test_nothing_is_lost_with_a_process_that_is_killed() -> None:
    """What it had noted was written at once."""
    notes = Notes()
    assert os.WTERMSIG(forked(notes, "there", end=signal.SIGKILL)) == signal.SIGKILL
    assert notes.book("read") == {"width": ["there"]}


def test_half_a_line_is_passed_over() -> None:
    """And the line that was then written after it; no other."""
    notes = Notes()
    forked(notes, "a")
    with Path(notes._path).open("a") as file:
        file.write('["read", "wid')
    forked(notes, "b")
    forked(notes, "c")
    assert notes.book("read") == {"width": ["a", "c"]}


def test_notes_that_were_handed_to_another_process_are_still_one_book() -> None:
    """As a loader's worker is handed them where processes are not forked."""
    notes = Notes()
    program = "import pickle, sys; pickle.load(sys.stdin.buffer).add('read', 'width', 'there')"
    subprocess.run([sys.executable, "-c", program], input=pickle.dumps(notes), check=True)
    assert notes.book("read") == {"width": ["there"]}


def test_the_file_goes_with_the_notes() -> None:
    """And not with a child of its process."""
    notes = Notes()
    path = Path(notes._path)
    forked(notes, "there")
    assert path.exists()
    del notes
    assert not path.exists()
