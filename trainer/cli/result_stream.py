"""Reserves stdout for the result: output of the experiment's code goes to stderr.

Python, C libraries and child processes write to file descriptor 1. The descriptor is redirected to stderr, and a duplicate that no child
inherits receives the result. The redirection is permanent, so that output at the process's exit does not mix with the result.
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
    """Return a context that yields the stream for the result and redirects all other output to stderr."""
    out: TextIO = sys.stdout
    out.flush()
    if _descriptor(out) == _STDOUT:
        out = os.fdopen(os.dup(_STDOUT), "w", encoding="utf-8", errors="backslashreplace")
        os.dup2(_STDERR, _STDOUT)
    with redirect_stdout(sys.stderr):
        yield escaping(out)
    out.flush()


def _descriptor(stream: TextIO) -> int | None:
    """Return the stream's file descriptor, or `None` for a stream without one, such as a test's."""
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None
