"""The interface through which a transfer reports its progress. The command line provides the display."""

from __future__ import annotations

from typing import Final, Protocol


class Progress(Protocol):
    """A receiver of progress. `advance` may be called from several threads at once."""

    def note(self, line: str) -> None:
        """Show a line of text to the user."""

    def begin(self, title: str, total: int) -> None:
        """Begin a transfer of `total` bytes."""

    def advance(self, size: int) -> None:
        """Report that `size` more bytes are done."""

    def end(self) -> None:
        """End the transfer, successful or not."""


class Silent:
    """A receiver that ignores everything."""

    def note(self, line: str) -> None:
        """Ignore the line."""

    def begin(self, title: str, total: int) -> None:
        """Ignore the transfer."""

    def advance(self, size: int) -> None:
        """Ignore the bytes."""

    def end(self) -> None:
        """Ignore the end."""


SILENT: Final = Silent()
