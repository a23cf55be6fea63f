"""Printing of results, and the streams that remove secrets and escape control characters.

Texts of records, declarations and stores reach a terminal as visible characters. Escapes have the form of JSON's, so that JSON stays
valid. In a process in which an experiment's code prints, the streams remove secrets only, and Reprise's lines go through `escaping`.

Python, C libraries and child processes write to file descriptor 1. `result_stream` reserves stdout for the result: it redirects the
descriptor to stderr, and a duplicate that no child inherits receives the result. The redirection is permanent, so that output at the
process's exit does not mix with the result.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from trainer.base.redaction import REDACTOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CONTROL: Final = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters except newline and tab
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # changes of the text direction
    r"\u2028\u2029\ud800-\udfff"  # other line separators; surrogates
)
_CONTROL_CHARACTER: Final = re.compile(f"[{_CONTROL}]")
_LINE_CONTROL_CHARACTER: Final = re.compile(f"[\n\t{_CONTROL}]")


def print_result(document: object, lines: str | Iterable[str], *, as_json: bool, indent: int | None = None) -> None:
    """Print a command's result on stdout: the document as JSON, or the lines."""
    if as_json:
        print_json(document, indent=indent)
    else:
        print(lines if isinstance(lines, str) else "\n".join(lines), flush=True)


def print_json(document: object, *, indent: int | None = None, file: TextIO | None = None) -> None:
    """Print a document as JSON, on stdout by default."""
    print(json.dumps(document, indent=indent), file=file, flush=True)


def print_progress(line: str) -> None:
    """Print a line on stderr."""
    print(line, file=sys.stderr, flush=True)


def print_notice(line: str) -> None:
    """Print a line on stderr, with the prefix `reprise:`."""
    print_progress(f"reprise: {line}")


def shown(text: str) -> str:
    r"""Return a text of any number of lines with control characters escaped.

    >>> shown("a\x1b[2J\u202eb\n")
    'a\\u001b[2J\\u202eb\n'
    """
    return _CONTROL_CHARACTER.sub(_escape, text)


def one_line(text: str) -> str:
    r"""Return the text on one line: control characters, newlines and tabs escaped.

    >>> one_line("a\nb")
    'a\\u000ab'
    """
    return _LINE_CONTROL_CHARACTER.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


class SafeStream:
    """A text stream that removes secrets and, if it `escapes`, escapes control characters; other attributes are the stream's."""

    def __init__(self, stream: TextIO, *, escapes: bool) -> None:
        """Wrap a stream."""
        self.stream, self.escapes = stream, escapes

    def write(self, text: str) -> int:
        """Write a text and return its length before redaction."""
        redacted = REDACTOR.redact(text)
        self.stream.write(shown(redacted) if self.escapes else redacted)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several strings."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the wrapped stream."""
        return getattr(self.stream, name)


def escaping(stream: TextIO) -> TextIO:
    """Return the stream with control characters escaped."""
    return _guarded(stream, escapes=True)


def underlying(stream: TextIO) -> TextIO:
    """Return the stream without escaping, for colors and progress bars; the caller escapes the text."""
    return _guarded(stream, escapes=False)


def _guarded(stream: TextIO, *, escapes: bool) -> TextIO:
    inner = stream.stream if isinstance(stream, SafeStream) else stream
    return cast("TextIO", SafeStream(inner, escapes=escapes))


@contextmanager
def guarded_streams(*, escapes: bool) -> Iterator[None]:
    """Redact secrets in the output of the block and, if `escapes`, escape control characters; register the environment's secrets."""
    REDACTOR.add_environment(os.environ)
    previous = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_guarded(stream, escapes=escapes) for stream in previous)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = previous


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
