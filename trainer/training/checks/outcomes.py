"""Exceptions of checks: a failure, a note, and nothing to check."""

from __future__ import annotations


class CheckFailed(Exception):  # noqa: N818 - it is a finding, not a fault of this program
    """A failure that a check found; `look` is a more specific hint than the check's own."""

    def __init__(self, said: str, *, look: str | None = None) -> None:
        """Store the text."""
        super().__init__(said)
        self.said, self.look = said, look


class CheckNote(Exception):  # noqa: N818 - it is a finding, not a fault of this program
    """A finding that may be intended; `look` is the hint."""

    def __init__(self, said: str, *, look: str | None = None) -> None:
        """Store the text."""
        super().__init__(said)
        self.said, self.look = said, look


class NothingToCheck(Exception):  # noqa: N818 - it is a finding, not a fault of this program
    """There is nothing to check; the message is the reason."""


def require(holds: object, said: str, *, look: str | None = None) -> None:
    """Raise `CheckFailed` if a condition is false."""
    if not holds:
        raise CheckFailed(said, look=look)


def listed(names: list[str], *, most: int = 4) -> str:
    """Return the first names, and the number of the others.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
