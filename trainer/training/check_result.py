"""The result of a check of an experiment: passed, noted, failed or skipped, with one line of text and a hint."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from trainer.base.document import Document

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Status(StrEnum):
    """The status of a check."""

    PASSED = "passed"
    NOTED = "noted"
    """Passed, with a remark on something that may be intended."""
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(Document):
    """One check's result."""

    check: str
    status: Status
    said: str
    look: str | None = None
    """Hint for a failure or a note: what to look at."""
    seconds: float = 0.0


_WIDE: Final = len("finite gradients")
_MARKS: Final = {Status.PASSED: "ok", Status.NOTED: "note", Status.FAILED: "FAILED", Status.SKIPPED: "skipped"}


def failed(findings: Sequence[Finding]) -> list[str]:
    """Return the names of the checks that failed."""
    return [finding.check for finding in findings if finding.status is Status.FAILED]


def noted(findings: Sequence[Finding]) -> list[str]:
    """Return the names of the checks with notes."""
    return [finding.check for finding in findings if finding.status is Status.NOTED]


def lines(finding: Finding) -> Iterator[str]:
    """Yield the line of a finding and, if there is a hint, a line with the hint.

    >>> list(lines(Finding(check="forward", status=Status.PASSED, said="[32, 1, 8, 8] to [32, 10]")))
    ['forward           ok       [32, 1, 8, 8] to [32, 10]']
    """
    yield f"{finding.check:{_WIDE}}  {_MARKS[finding.status]:7}  {finding.said}"
    if finding.look:
        yield f"{'':{_WIDE}}           look at: {finding.look}"
