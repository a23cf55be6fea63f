"""Check that text files of a dataset are UTF-8 with common line ends.

A dataset stores bytes unchanged, so a file that would give wrong samples is an error; the hint is a command that converts it.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DatasetError
from trainer.base.plain_text import SURROGATE, is_surrogate, likely_utf_16

if TYPE_CHECKING:
    from collections.abc import Iterable

_JOIN: Final = (
    'import sys; t = sys.stdin.buffer.read().decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass"); '
    'sys.stdout.buffer.write(t.decode("utf-16", "replace").encode())'
)
_LONE_CR: Final = re.compile(rb"\r(?!\n)")
_WIDE: Final = {
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),  # first, because the UTF-16 mark is the beginning of it
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
_COMPRESSED: Final = {"gzip": b"\x1f\x8b", "zip": b"PK\x03\x04", "xz": b"\xfd7zXZ\0", "zstd": b"\x28\xb5\x2f\xfd"}


def count_lines(blocks: Iterable[bytes], *, where: str) -> int:
    r"""Count the lines of a UTF-8 text, which end with LF or CRLF.

    Raises `DatasetError` with the line for a byte order mark, UTF-16, bytes that are not UTF-8, NUL, and CR without LF.

    >>> count_lines([b"one\r\ntw", b"o"], where="t.txt")
    2
    """
    count, last, rest, decoder = 0, b"\n", b"", codecs.getincrementaldecoder("utf-8")()
    for block in blocks:
        if not count and last == b"\n" and not rest:
            _require_unmarked(block, where=where)
        body = rest + block
        rest = body[-1:] if body.endswith(b"\r") else b""  # the next block shows whether LF follows
        body = body[: len(body) - len(rest)]
        _require_plain(body, decoder, count, where=where)
        count, last = count + body.count(b"\n"), body[-1:] or last
    _require_plain(rest, decoder, count, where=where, is_last=True)
    return count + (last != b"\n")


def _require_unmarked(block: bytes, *, where: str) -> None:
    if compressed := next((name for name, mark in _COMPRESSED.items() if block.startswith(mark)), None):
        raise DatasetError(
            f"{where} is compressed ({compressed}); expected text", hint="unpack it, and publish the text"
        )
    if encoding := next((name for name, marks in _WIDE.items() if block.startswith(marks)), None):
        hint = f"iconv -f {encoding} -t UTF-8 {where} > new.txt"
        raise DatasetError(f"{where} is not UTF-8 text: it is {encoding}", hint=hint)
    if block.startswith(codecs.BOM_UTF8):
        hint = f"sed -i '1s/^\\xEF\\xBB\\xBF//' {where}"
        raise DatasetError(f"{where} begins with a byte order mark, which would be part of its first sample", hint=hint)


def _require_plain(
    body: bytes, decoder: codecs.IncrementalDecoder, before: int, *, where: str, is_last: bool = False
) -> None:
    try:
        decoder.decode(body, final=is_last)
    except UnicodeDecodeError as fault:
        line = before + fault.object[: fault.start].count(b"\n") + 1
        what = f"the byte 0x{fault.object[fault.start : fault.start + 1].hex()} ({fault.reason})"
        hint = f"if it is Latin-1: iconv -f LATIN1 -t UTF-8 {where} > new.txt"
        if is_surrogate(fault):
            what, hint = SURROGATE, f"join the halves: python3 -c '{_JOIN}' < {where} > new.txt"
        raise DatasetError(f"{where} is not UTF-8 text: line {line} has {what}", hint=hint) from fault
    if (at := body.find(b"\0")) >= 0:
        message = f"{where}, line {before + body.count(10, 0, at) + 1}: a NUL character; expected text"
        kind = likely_utf_16(body)
        convert = f"iconv -f {kind} -t UTF-8 {where} > new.txt" if kind else f"tr -d '\\000' < {where} > new.txt"
        raise DatasetError(message, hint=convert)
    if found := _LONE_CR.search(body):
        line = before + body.count(b"\n", 0, found.start()) + 1
        message = f"{where}, line {line}: a CR without LF; expected lines that end with LF or CRLF"
        raise DatasetError(message, hint=f"if its lines end with CR: tr '\\r' '\\n' < {where} > new.txt")
