"""How a transfer is told in a pipe: plain lines, not too many."""

from __future__ import annotations

import io

from trainer.cli.progress import LineProgress, readable, transfer_progress


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_it_tells_the_beginning_now_and_then_and_the_end() -> None:
    """Share, rate and time left, at most every five seconds."""
    stream, clock = io.StringIO(), Clock()
    progress = LineProgress("fetching", stream, clock)
    progress.begin("faces@1", 10_000_000)
    for clock.now in (1.0, 2.0, 5.0, 6.0):
        progress.advance(1_000_000)
    progress.advance(6_000_000)
    clock.now = 8.0
    progress.end()
    assert stream.getvalue().splitlines() == [
        "fetching faces@1: 10.0 MB",
        "fetching faces@1: 30%, 600.0 kB/s, 12 s left",
        "fetching faces@1: 10.0 MB in 8.0 s, 1.2 MB/s",
    ]


def test_a_transfer_that_failed_tells_how_far_it_was() -> None:
    """The last line does not claim more than was done."""
    stream, clock = io.StringIO(), Clock()
    progress = LineProgress("fetching", stream, clock)
    progress.begin("faces@1", 100)
    progress.advance(40)
    clock.now = 1.0
    progress.end()
    assert stream.getvalue().splitlines()[-1] == "fetching faces@1: 40 B of 100 B in 1.0 s, 40 B/s"


def test_nothing_to_move_is_not_worth_a_line() -> None:
    """A second publication says nothing about bytes."""
    stream = io.StringIO()
    progress = LineProgress("publishing", stream)
    progress.begin("folder", 0)
    progress.end()
    assert stream.getvalue() == ""


def test_a_pipe_gets_lines() -> None:
    """No control characters where nobody looks."""
    assert isinstance(transfer_progress(stream=io.StringIO()), LineProgress)


def test_sizes_are_readable() -> None:
    """Three digits or so, in powers of ten."""
    assert [readable(size) for size in (0, 999, 1000, 1_500_000, 2e9, 3e12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.5 MB",
        "2.0 GB",
        "3,000.0 GB",
    ]
