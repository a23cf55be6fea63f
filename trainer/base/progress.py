"""What a transfer tells while it runs. Knows nothing of how that is shown: the edge brings what shows it."""

from __future__ import annotations

from typing import Final, Protocol


class Progress(Protocol):
    """Where a transfer reports. `advance` may be called from several threads at once."""

    def note(self, line: str) -> None:
        """Something a person who waits would like to know."""

    def begin(self, title: str, total: int) -> None:
        """`total` bytes are to come."""

    def advance(self, size: int) -> None:
        """`size` more bytes are done."""

    def end(self) -> None:
        """It is over, well or not."""


class Silent:
    """Tells nothing."""

    def note(self, line: str) -> None:
        """Ignore it."""

    def begin(self, title: str, total: int) -> None:
        """Ignore it."""

    def advance(self, size: int) -> None:
        """Ignore it."""

    def end(self) -> None:
        """Ignore it."""


SILENT: Final = Silent()
