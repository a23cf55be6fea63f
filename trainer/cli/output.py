"""The streams that a command prints to: the values of secrets are removed there, whoever prints."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

from trainer.redaction import REDACTOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class RedactedStream:
    """A text stream that writes without the values of secrets; everything else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text; give its length as it was, which is what callers compare."""
        self._stream.write(REDACTOR.redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Give what the stream has."""
        return getattr(self._stream, name)


def redacted(stream: TextIO) -> TextIO:
    """The stream without the values of secrets."""
    return cast("TextIO", RedactedStream(stream))


@contextmanager
def redacted_output() -> Iterator[None]:
    """Remove secrets from all that this process prints in the block: those of its environment, and those that are read later."""
    REDACTOR.add_environment(os.environ)
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(redacted, streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
