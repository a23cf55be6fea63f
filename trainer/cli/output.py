"""The streams that commands print to: secrets are removed and what a terminal would obey is escaped, at the one place that prints.

Whatever a record, a declaration, a store, a key or a name holds, it reaches a terminal as visible characters. An escape has the form that
JSON has, so that JSON stays JSON. In a process in which an experiment's own code prints, secrets are removed and nothing is escaped; our
own lines go through `escaping`.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from trainer.base.redaction import REDACTOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_OBEYED: Final = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for the ends of lines and tabs
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of a line
    r"\u2028\u2029\ud800-\udfff"  # line ends of other kinds; halves of a pair
)
_ANYWHERE: Final = re.compile(f"[{_OBEYED}]")
_WITHIN_A_LINE: Final = re.compile(f"[\n\t{_OBEYED}]")


def shown(text: str) -> str:
    r"""The text as it is printed, of any number of lines: all that is printed passes through here, once.

    >>> shown("a\x1b[2J\u202eb\n")
    'a\\u001b[2J\\u202eb\n'
    """
    return _ANYWHERE.sub(_escape, text)


def one_line(text: str) -> str:
    r"""The text in a line or a cell, which it cannot leave.

    >>> one_line("a\nb")
    'a\\u000ab'
    """
    return _WITHIN_A_LINE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


class Output:
    """A stream of text, to which text is written without secrets and, if it `escapes`, as it is `shown`; all else is the stream's own."""

    def __init__(self, stream: TextIO, *, escapes: bool) -> None:
        """Write to this one."""
        self.stream, self.escapes = stream, escapes

    def write(self, text: str) -> int:
        """Write a text; as many characters are reported as were given."""
        clean = REDACTOR.redact(text)
        self.stream.write(shown(clean) if self.escapes else clean)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """What the stream says of itself: its descriptor, whether it is a terminal."""
        return getattr(self.stream, name)


def escaping(stream: TextIO) -> TextIO:
    """The stream as one that escapes."""
    return _guarded(stream, escapes=True)


def underlying(stream: TextIO) -> TextIO:
    """The stream for what is meant to be obeyed: colors, bars. Whoever writes there has escaped all else."""
    return _guarded(stream, escapes=False)


def _guarded(stream: TextIO, *, escapes: bool) -> TextIO:
    inner = stream.stream if isinstance(stream, Output) else stream
    return cast("TextIO", Output(inner, escapes=escapes))


@contextmanager
def guarded_streams(*, escapes: bool) -> Iterator[None]:
    """Have all that is printed in the block redacted, and escaped if it `escapes`; the environment's secrets are known from here on."""
    REDACTOR.add_environment(os.environ)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_guarded(stream, escapes=escapes) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
