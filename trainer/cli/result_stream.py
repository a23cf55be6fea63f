"""Stdout for the result alone: whatever the experiment's code prints, and with whatever it prints, goes to stderr.

Its `print`, its writes to file descriptor 1, C libraries and child processes all write to that descriptor; here it becomes stderr, and the
old one is kept under another number that no child inherits. It is not given back: what is printed while the process ends is no result.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, TextIO

from trainer.cli.output import escaping

if TYPE_CHECKING:
    from collections.abc import Iterator

_STDOUT = 1
_STDERR = 2


@contextmanager
def result_stream() -> Iterator[TextIO]:
    """Give the stream for the result while all else that is printed in the block goes to stderr."""
    out: TextIO = sys.stdout
    out.flush()
    if _descriptor(out) == _STDOUT:
        out = os.fdopen(os.dup(_STDOUT), "w", encoding="utf-8", errors="backslashreplace")
        os.dup2(_STDERR, _STDOUT)
    with redirect_stdout(sys.stderr):
        yield escaping(out)
    out.flush()


def _descriptor(stream: TextIO) -> int | None:
    """The stream's file descriptor; `None` if it has none, as one that a test put there."""
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None
