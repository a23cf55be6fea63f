"""How a transfer is shown: a bar on a terminal, a line now and then in a pipe; always on stderr."""

from __future__ import annotations

import sys
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Final, TextIO

from trainer.cli.output import escaping, one_line, shown, underlying

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress as Bar

    from trainer.base.progress import Progress

EVERY_S: Final = 5.0
_STEP: Final = 1000


def transfer_progress(verb: str = "fetching", stream: TextIO | None = None) -> Progress:
    """What shows transfers on `stream` (stderr) in the way that suits it."""
    stream = escaping(stream or sys.stderr)
    return BarProgress(verb) if stream.isatty() else LineProgress(verb, stream)


class LineProgress:
    """Plain lines: at the beginning, every five seconds, at the end."""

    def __init__(self, verb: str, stream: TextIO, clock: Callable[[], float] = monotonic) -> None:
        """Begin with nothing to tell."""
        self._verb, self._stream, self._clock, self._lock = verb, stream, clock, Lock()
        self._title, self._total, self._done, self._began, self._told = "", 0, 0, 0.0, 0.0

    def note(self, line: str) -> None:
        """Pass it on."""
        self._say(line)

    def begin(self, title: str, total: int) -> None:
        """Tell what is to come."""
        self._title, self._total, self._done = title, total, 0
        self._began = self._told = self._clock()
        if total:
            self._say(f"{self._verb} {title}: {readable(total)}")

    def advance(self, size: int) -> None:
        """Tell how far it is, when it is time."""
        with self._lock:
            self._done += size
            now = self._clock()
            if now - self._told < EVERY_S:
                return
            self._told = now
            rate = self._done / (now - self._began)
            left = (self._total - self._done) / rate
            self._say(
                f"{self._verb} {self._title}: {self._done / max(self._total, 1):.0%}, {readable(rate)}/s, {left:.0f} s left"
            )

    def end(self) -> None:
        """Tell what it came to; of a transfer that failed, how far it was."""
        if self._total:
            seconds = max(self._clock() - self._began, 1e-9)
            whole = (
                f"{readable(self._done)}"
                if self._done == self._total
                else f"{readable(self._done)} of {readable(self._total)}"
            )
            self._say(f"{self._verb} {self._title}: {whole} in {seconds:.1f} s, {readable(self._done / seconds)}/s")

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class BarProgress:
    """A bar with rate and time left."""

    def __init__(self, verb: str) -> None:
        """Begin with no bar."""
        self._verb = verb
        self._bar: Bar | None = None

    def note(self, line: str) -> None:
        """Pass it on, above the bar."""
        print(shown(line), file=sys.stderr, flush=True)

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
        """Lengthen the bar."""
        if self._bar:
            self._bar.advance(self._task, size)

    def end(self) -> None:
        """Leave the bar as it is."""
        if self._bar:
            self._bar.stop()


def readable(size: float) -> str:
    """A size for people: powers of ten, as disks and networks are sold.

    >>> readable(12), readable(23368), readable(488912000)
    ('12 B', '23.4 kB', '488.9 MB')
    """
    for unit in ("B", "kB", "MB"):
        if size < _STEP:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= _STEP
    return f"{size:,.1f} GB"
