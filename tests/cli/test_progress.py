"""The progress of a transfer in a pipe: a few plain lines."""

from __future__ import annotations

import io

from trainer.cli.progress import LineProgress, readable, transfer_progress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_is_logged_at_start_at_intervals_and_at_the_end() -> None:
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


def test_a_failed_transfer_logs_its_progress() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = LineProgress("fetching", stream, clock)
    progress.begin("faces@1", 100)
    progress.advance(40)
    clock.now = 1.0
    progress.end()
    assert stream.getvalue().splitlines()[-1] == "fetching faces@1: 40 B of 100 B in 1.0 s, 40 B/s"


def test_an_empty_transfer_logs_nothing() -> None:
    stream = io.StringIO()
    progress = LineProgress("publishing", stream)
    progress.begin("folder", 0)
    progress.end()
    assert stream.getvalue() == ""


def test_a_pipe_gets_plain_lines() -> None:
    assert isinstance(transfer_progress(stream=io.StringIO()), LineProgress)


def test_sizes_are_readable() -> None:
    assert [readable(size) for size in (0, 999, 1000, 1_500_000, 2e9, 3e12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.5 MB",
        "2.0 GB",
        "3,000.0 GB",
    ]
