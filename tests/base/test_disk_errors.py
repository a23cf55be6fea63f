"""File system errors have a hint that fits the cause."""

from __future__ import annotations

import errno
import os

import pytest

from trainer.base.disk_errors import disk_fault
from trainer.base.errors import DiskFullError, MachineError, NotWritableError, UsageError
from trainer.cli.messages import report


@pytest.mark.parametrize(
    ("number", "kind", "message", "hint"),
    [
        (errno.ENOSPC, DiskFullError, "no space left to write /data/x", "free space there"),
        (errno.EDQUOT, DiskFullError, "the disk quota of this user is used up", "remove your files"),
        (errno.EROFS, NotWritableError, "its file system is read-only", "mount it writable"),
        (errno.EACCES, NotWritableError, "cannot be written by uid", "change its owner"),
        (errno.ENAMETOOLONG, MachineError, "the name is too long", "use a shorter name"),
        (errno.EIO, MachineError, "Input/output error", "check that folder and its file system"),
    ],
)
def test_each_reason_has_its_own_hint(number: int, kind: type, message: str, hint: str) -> None:
    error = disk_fault(OSError(number, os.strerror(number)), "/data/x")
    assert type(error) is kind
    assert message in error.message
    assert hint in str(error.hint)
    assert number == errno.EACCES or "owner" not in str(error.hint)


def test_a_name_that_is_too_long_is_not_reported_as_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="too long") as caught:
        os.stat("x" * 5000)  # noqa: PTH116 - raises the error as a library would
    code = report(caught.value, as_json=False, debug=False)
    stderr = capsys.readouterr().err
    assert code == UsageError.code
    assert "too long" in stderr
    assert "bug in Reprise" not in stderr
    assert len(stderr) < 400


def test_an_exception_that_cannot_be_shown_is_still_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    class Odd(Exception):  # noqa: N818 - an invented library's exception
        def __str__(self) -> str:
            raise ValueError

    assert report(Odd(), as_json=True, debug=False) == 1
    assert '"message": "unexpected Odd: its message cannot be shown"' in capsys.readouterr().err
