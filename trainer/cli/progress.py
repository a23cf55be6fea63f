"""Progress of a transfer on stderr: a bar on a terminal, lines in a pipe."""

from __future__ import annotations

import sys
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Final, TextIO

from trainer.cli.messages import spelled
from trainer.cli.output import escaping, one_line, shown, underlying

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress as Bar

    from trainer.base.progress import Progress

EVERY_S: Final = 5.0
_STEP: Final = 1000


def transfer_progress(verb: str = "fetching", stream: TextIO | None = None) -> Progress:
    """Return a display of progress: a bar on stderr if `stream` (default stderr) is a terminal, else lines on `stream`."""
    stream = escaping(stream or sys.stderr)
    return BarProgress(verb) if stream.isatty() else LineProgress(verb, stream)


class LineProgress:
    """A display that prints a line at the beginning, every five seconds and at the end."""

    def __init__(self, verb: str, stream: TextIO, clock: Callable[[], float] = monotonic) -> None:
        """Create a display without a transfer."""
        self._verb, self._stream, self._clock, self._lock = verb, stream, clock, Lock()
        self._title, self._total, self._done, self._began, self._printed = "", 0, 0, 0.0, 0.0

    def note(self, line: str) -> None:
        """Print a line."""
        print(spelled(line), file=self._stream, flush=True)

    def begin(self, title: str, total: int) -> None:
        """Begin a transfer of `total` bytes."""
        self._title, self._total, self._done = title, total, 0
        self._began = self._printed = self._clock()
        if total:
            self.note(f"{self._verb} {title}: {readable(total)}")

    def advance(self, size: int) -> None:
        """Add transferred bytes; print a line if the last line is five seconds old."""
        with self._lock:
            self._done += size
            now = self._clock()
            if now - self._printed < EVERY_S:
                return
            self._printed = now
            rate = self._done / (now - self._began)
            remaining = f"{(self._total - self._done) / rate:.0f} s left"
            share = f"{self._done / max(self._total, 1):.0%}"
            self.note(f"{self._verb} {self._title}: {share}, {readable(rate)}/s, {remaining}")

    def end(self) -> None:
        """Print the transferred size, time and rate."""
        if self._total:
            seconds = max(self._clock() - self._began, 1e-9)
            total_text = "" if self._done == self._total else f" of {readable(self._total)}"
            size, rate = f"{readable(self._done)}{total_text}", readable(self._done / seconds)
            self.note(f"{self._verb} {self._title}: {size} in {seconds:.1f} s, {rate}/s")


class BarProgress:
    """A display that draws a bar with the rate and the remaining time."""

    def __init__(self, verb: str) -> None:
        """Create a display without a transfer."""
        self._verb = verb
        self._bar: Bar | None = None

    def note(self, line: str) -> None:
        """Print a line above the bar."""
        print(shown(spelled(line)), file=sys.stderr, flush=True)

    def begin(self, title: str, total: int) -> None:
        """Draw the bar."""
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=Console(file=underlying(sys.stderr)))
        self._task = self._bar.add_task(escape(f"{self._verb} {one_line(title)}"), total=total)
        self._bar.start()

    def advance(self, size: int) -> None:
        """Advance the bar."""
        if self._bar:
            self._bar.advance(self._task, size)

    def end(self) -> None:
        """Stop the bar, and leave it on the terminal."""
        if self._bar:
            self._bar.stop()


def readable(size: float) -> str:
    """Return a size in decimal units.

    >>> readable(12), readable(23368), readable(488912000)
    ('12 B', '23.4 kB', '488.9 MB')
    """
    for unit in ("B", "kB", "MB"):
        if size < _STEP:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= _STEP
    return f"{size:,.1f} GB"
