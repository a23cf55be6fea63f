"""Decode text files that users write: settings, declarations, lists, label tables.

Editors and spreadsheets save UTF-8 with a byte order mark, UTF-16, and lines that end in CR; all of these are accepted. Unmarked text
that is not UTF-8 is an error that names the line: guessing the encoding could merge two names.
"""

from __future__ import annotations

import codecs
import os
import stat
import tokenize
from contextlib import contextmanager
from io import FileIO
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DocumentError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGEST: Final = 32 << 20
"""Maximum bytes of a document: a record with its inventory and a list of about 100,000 files."""
_MARKS: Final = (  # longer marks first: the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_HINT: Final = "save it as UTF-8"
SURROGATE: Final = "half of a character (a surrogate)"


def read_text(path: Path, *, most: int = LARGEST) -> str:
    """Read a text file of at most `most` bytes, with LF line ends. Raise `DocumentError` if it cannot be read or decoded."""
    return decode_text(read_bytes(path, most=most), where=str(path))


def read_bytes(path: Path, *, most: int = LARGEST) -> bytes:
    """Read a file of at most `most` bytes, without blocking on a pipe or a device. Raise `DocumentError` if it cannot be read."""
    with reading(path), FileIO(path, opener=_open_at_once) as file:
        return read_open(file, path, most=most)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Convert an `OSError` on reading `path` to a `DocumentError`."""
    try:
        yield
    except FileNotFoundError as fault:
        raise DocumentError(f"{path} does not exist", hint="check the name") from fault
    except IsADirectoryError as fault:
        raise DocumentError(f"{path} is a folder; expected a file", hint="name the file in it") from fault
    except PermissionError as fault:
        raise DocumentError(f"{path} cannot be read by this user", hint="change its permissions") from fault
    except (OSError, ValueError) as fault:  # ValueError: a NUL in the name
        reason = fault.strerror if isinstance(fault, OSError) else fault
        raise DocumentError(f"{path} cannot be read: {reason}", hint="check the name") from fault


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without blocking on a pipe, and without making a terminal the controlling terminal."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def read_open(file: FileIO, path: Path, *, most: int) -> bytes:
    """Return the bytes of an open file, which `path` names in messages. Raise `DocumentError` if there are more than `most`."""
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        message = f"{path} is a named pipe or a device; expected a file: it is read more than once"
        raise DocumentError(message, hint="write its contents into a file")
    raw = bytearray()
    while found.st_size <= most and len(raw) <= most and (block := file.read(most + 1 - len(raw))):
        raw += block
    if (size := max(found.st_size, len(raw))) > most:
        raise DocumentError(f"{path} has {size} bytes; expected at most {most}", hint="check the name")
    return bytes(raw)


def read_python(path: Path) -> str:
    """Read a Python file as Python does: by its byte order mark or coding line, else as UTF-8.

    Raise `OSError` if the file cannot be read, and `SyntaxError` or `UnicodeDecodeError` if it cannot be decoded.
    """
    with tokenize.open(path) as file:
        return file.read()


def is_surrogate(fault: UnicodeDecodeError) -> bool:
    """Return whether the invalid byte begins an encoded surrogate, as in CESU-8 from Java and databases."""
    lead, *rest = fault.object[fault.start : fault.start + 2] or b"\0"
    return lead == 0xED and bool(rest) and rest[0] >= 0xA0  # noqa: PLR2004 - U+D800 to U+DFFF


def _require_no_nul(body: bytes, *, where: str) -> None:
    """Raise `DocumentError` for a NUL character, with the text's likely encoding."""
    if (at := body.find(b"\0")) < 0:
        return
    hint = f"{_HINT}: it seems to be {kind} without a byte order mark" if (kind := likely_utf_16(body)) else "remove it"
    line = body.count(b"\n", 0, at) + 1
    raise DocumentError(f"{where}, line {line}: expected text, found a NUL character", hint=hint)


def likely_utf_16(body: bytes) -> str:
    r"""Return the likely kind of UTF-16 of a text with NUL characters; empty if it is not UTF-16.

    >>> likely_utf_16("ab".encode("utf-16-be")), likely_utf_16(b"tw\0o")
    ('UTF-16BE', '')
    """
    for first, kind in enumerate(("UTF-16BE", "UTF-16LE")):
        if body[first::2].count(0) * 4 > len(body):
            return kind
    return ""


def decode_text(raw: bytes, *, where: str) -> str:
    r"""Decode UTF-8, or UTF-16 and UTF-32 with a byte order mark, and convert line ends to LF.

    Raise `DocumentError` with `where` and the line.

    >>> decode_text(b"\xef\xbb\xbfa\r\nb\rc", where="list.txt")
    'a\nb\nc'
    """
    mark, encoding = next(((mark, name) for mark, name in _MARKS if raw.startswith(mark)), (b"", "utf-8"))
    body = raw[len(mark) :]
    if encoding == "utf-8":
        _require_no_nul(body, where=where)
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as fault:
        line = body[: fault.start].count("\n".encode(encoding)) + 1
        byte = body[fault.start : fault.start + 1].hex()
        found = (
            f"{SURROGATE}, which UTF-8 does not have" if is_surrogate(fault) else f"the byte 0x{byte} ({fault.reason})"
        )
        message = f"{where}, line {line}: expected {encoding.upper()} text, found {found}"
        raise DocumentError(message, hint=_HINT) from fault
    _require_no_nul(text.encode(), where=where)
    return text.replace("\r\n", "\n").replace("\r", "\n")
