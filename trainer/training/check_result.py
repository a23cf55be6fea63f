"""The result of a check of an experiment, with one line of text and a hint, and the exceptions that checks raise."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from trainer.base.document import Document

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class CheckStatus(StrEnum):
    """The status of a check."""

    PASSED = "passed"
    NOTED = "noted"
    """Passed, with a remark on something that may be intended."""
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(Document):
    """One check's result."""

    check: str
    status: CheckStatus
    message: str
    hint: str | None = None
    """Hint for a failure or a note: what to look at."""
    seconds: float = 0.0


_WIDE: Final = len("finite gradients")
_MARKS: Final = {
    CheckStatus.PASSED: "ok",
    CheckStatus.NOTED: "note",
    CheckStatus.FAILED: "FAILED",
    CheckStatus.SKIPPED: "skipped",
}


def names_of(findings: Sequence[Finding], status: CheckStatus) -> list[str]:
    """Return the names of the checks with this status."""
    return [finding.check for finding in findings if finding.status is status]


def lines(finding: Finding) -> Iterator[str]:
    """Yield the line of a finding and, if there is a hint, a line with the hint.

    >>> list(lines(Finding(check="forward", status=CheckStatus.PASSED, message="[32, 1, 8, 8] to [32, 10]")))
    ['forward           ok       [32, 1, 8, 8] to [32, 10]']
    """
    yield f"{finding.check:{_WIDE}}  {_MARKS[finding.status]:7}  {finding.message}"
    if finding.hint:
        yield f"{'':{_WIDE}}           hint: {finding.hint}"


class _FailedCheck(Exception):  # noqa: N818 - a result, not an error of this program
    """A check's result other than a pass: its message and hint."""

    status: CheckStatus

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


class CheckFailed(_FailedCheck):
    """A failure that a check found; `hint` is a more specific hint than the check's own."""

    status = CheckStatus.FAILED


class CheckNote(_FailedCheck):
    """A finding that may be intended; `hint` is the hint."""

    status = CheckStatus.NOTED


class NothingToCheck(_FailedCheck):
    """A check is skipped because there is nothing to check; the message is the reason."""

    status = CheckStatus.SKIPPED


def require(condition: object, message: str, *, hint: str | None = None) -> None:
    """Raise `CheckFailed` if a condition is false."""
    if not condition:
        raise CheckFailed(message, hint=hint)


def listed(names: list[str], *, most: int = 4) -> str:
    """Return the first `most` names, and the number of the other names.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
