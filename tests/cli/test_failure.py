"""Unexpected errors: a disk error is not reported as a bug."""

from __future__ import annotations

import errno

import pytest

from trainer.base.errors import DiskFullError, NotWritableError
from trainer.cli.messages import report


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DiskFullError.code, "no space left to write a file"),
        (OSError(errno.EROFS, "Read-only file system"), NotWritableError.code, "its file system is read-only"),
        (OSError(errno.ENOSPC, "No space left", "/a/b"), DiskFullError.code, "no space left to write /a/b"),
        (OSError(errno.EBADF, "Bad file descriptor"), 1, "this is a bug in Reprise"),
    ],
)
def test_a_full_disk_is_reported_whichever_call_fails(
    capsys: pytest.CaptureFixture[str], error: OSError, code: int, message: str
) -> None:
    """`close` writes too, and its OSError names no file."""
    assert report(error, as_json=False, debug=False) == code
    assert message in capsys.readouterr().err
