"""How a check says that something is wrong, that something is odd and no fault, or that there is nothing to check."""

from __future__ import annotations


class Wrong(Exception):  # noqa: N818 - it is a finding, not a fault of this program
    """What a check found wrong; `look` says more precisely than the check itself what to look at."""

    def __init__(self, said: str, *, look: str | None = None) -> None:
        """Keep the line."""
        super().__init__(said)
        self.said, self.look = said, look


class Odd(Exception):  # noqa: N818 - it is a finding, not a fault of this program
    """What a check found that is worth knowing and may be meant; `look` says what to look at."""

    def __init__(self, said: str, *, look: str | None = None) -> None:
        """Keep the line."""
        super().__init__(said)
        self.said, self.look = said, look


class Nothing(Exception):  # noqa: N818 - it is a finding, not a fault of this program
    """There is nothing to check, and why."""


def require(holds: object, said: str, *, look: str | None = None) -> None:
    """Raise `Wrong` where something does not hold."""
    if not holds:
        raise Wrong(said, look=look)


def listed(names: list[str], *, most: int = 4) -> str:
    """Name the first of them.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
