"""What a check of an experiment found: passed, odd, failed or skipped, a line about it, and what to look at.

Knows how findings are told. Refuses to know how anything is checked: `trainer.training.checks` does.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from trainer.base.document import Document

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Status(StrEnum):
    """What came of a check."""

    PASSED = "passed"
    NOTED = "noted"
    """Passed, with something that is worth knowing and may be meant."""
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(Document):
    """One check's result."""

    check: str
    status: Status
    said: str
    look: str | None = None
    """Of a failure, or of what is odd: what to look at."""
    seconds: float = 0.0


_WIDE: Final = len("finite gradients")
_MARKS: Final = {Status.PASSED: "ok", Status.NOTED: "note", Status.FAILED: "FAILED", Status.SKIPPED: "skipped"}


def failed(findings: Sequence[Finding]) -> list[str]:
    """Name the checks that failed."""
    return [finding.check for finding in findings if finding.status is Status.FAILED]


def noted(findings: Sequence[Finding]) -> list[str]:
    """Name the checks that found something odd."""
    return [finding.check for finding in findings if finding.status is Status.NOTED]


def lines(finding: Finding) -> Iterator[str]:
    """Tell one: a line, and under it what to look at, where there is something.

    >>> list(lines(Finding(check="forward", status=Status.PASSED, said="[32, 1, 8, 8] to [32, 10]")))
    ['forward           ok       [32, 1, 8, 8] to [32, 10]']
    """
    yield f"{finding.check:{_WIDE}}  {_MARKS[finding.status]:7}  {finding.said}"
    if finding.look:
        yield f"{'':{_WIDE}}           look at: {finding.look}"
