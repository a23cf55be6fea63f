"""Decoding the text files that people write: settings, declarations, lists, label tables.

Editors and spreadsheets save UTF-8 with a byte order mark, UTF-16, and lines that end in CR. All of these are read as what they
mean. Text in an unmarked encoding that is not UTF-8 is an error that names the line: a guess could merge two names into one.
"""

from __future__ import annotations

import codecs
import os
import stat
import tokenize
from io import FileIO
from typing import TYPE_CHECKING, Final

from trainer.errors import DocumentError

if TYPE_CHECKING:
    from pathlib import Path

LARGEST: Final = 32 << 20
"""Bytes of a document: a record with its inventory and a list of some 100,000 files."""
_MARKS: Final = (  # the longer marks first: the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_HINT: Final = "save it as UTF-8"


def read_text(path: Path, *, most: int = LARGEST) -> str:
    """Read a text file of at most `most` bytes, with LF line ends. Raises `DocumentError` if it cannot be read or decoded."""
    return decode_text(read_bytes(path, most=most), where=str(path))


def read_bytes(path: Path, *, most: int = LARGEST) -> bytes:
    """Read a file of at most `most` bytes, without waiting for a pipe or a device. Raises `DocumentError` if it cannot be read."""
    try:
        with FileIO(path, opener=_open_at_once) as file:
            return _whole(file, path, most)
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
    """Open a file as `open` does; a pipe without a writer opens too, and a terminal does not become this process's own."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _whole(file: FileIO, path: Path, most: int) -> bytes:
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        said = f"{path} is a named pipe or a device; expected a file: it is read more than once"
        raise DocumentError(said, hint="write its contents into a file")
    raw = bytearray()
    while found.st_size <= most and len(raw) <= most and (block := file.read(most + 1 - len(raw))):
        raw += block
    if (size := max(found.st_size, len(raw))) > most:
        raise DocumentError(f"{path} has {size} bytes; expected at most {most}", hint="check the name")
    return bytes(raw)


def read_python(path: Path) -> str:
    """Read a Python file as Python itself does: by its byte order mark or coding line, else as UTF-8.

    Raises `OSError`, `SyntaxError`, `UnicodeDecodeError`.
    """
    with tokenize.open(path) as file:
        return file.read()


def decode_text(raw: bytes, *, where: str) -> str:
    r"""Decode UTF-8, or UTF-16 and UTF-32 with a byte order mark, and end lines with LF.

    Raises `DocumentError` with `where` and the line.

    >>> decode_text(b"\xef\xbb\xbfa\r\nb\rc", where="list.txt")
    'a\nb\nc'
    """
    mark, encoding = next(((mark, name) for mark, name in _MARKS if raw.startswith(mark)), (b"", "utf-8"))
    body = raw[len(mark) :]
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as fault:
        line = body[: fault.start].count("\n".encode(encoding)) + 1
        byte = body[fault.start : fault.start + 1].hex()
        raise DocumentError(
            f"{where}, line {line}: expected {encoding.upper()} text, found the byte 0x{byte} ({fault.reason})",
            hint=_HINT,
        ) from fault
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DocumentError(f"{where}, line {line}: expected text, found a NUL character", hint=_HINT)
    return text.replace("\r\n", "\n").replace("\r", "\n")
