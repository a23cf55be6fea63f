"""Text files of a dataset: lines are counted, and text that would result in wrong samples is rejected."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import DatasetError
from trainer.data.file_formats import count_lines

if TYPE_CHECKING:
    from pathlib import Path


def blocks(raw: bytes, size: int) -> list[bytes]:
    return [raw[at : at + size] for at in range(0, len(raw), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("raw", "count"),
    [
        (b"", 0),
        (b"a", 1),
        (b"a\n", 1),
        (b"a\r\nb\r\n", 2),
        (b"\n\na", 3),
        ("ä\nö\u2028ü\x0b".encode(), 2),
        (b"\r\n", 1),
    ],
)
def test_lines_are_counted_in_blocks_of_any_size(raw: bytes, count: int, size: int) -> None:
    assert count_lines(blocks(raw, size), where="t.txt") == count


@pytest.mark.parametrize("size", [4, 5, 100])
@pytest.mark.parametrize(
    ("raw", "message", "hint"),
    [
        (b"\xef\xbb\xbfone\ntwo\n", "t.txt begins with a byte order mark", "sed -i"),
        ("one\ntwo\n".encode("utf-16"), "t.txt is not UTF-8 text: it is UTF-16", "iconv -f UTF-16 "),
        ("one\ntwo\n".encode("utf-32"), "t.txt is not UTF-8 text: it is UTF-32", "iconv -f UTF-32 "),
        (b"\x1f\x8b\x08\0one\ntwo\n", "t.txt is compressed (gzip); expected text", "unpack it"),
        ("one\ntwo\n".encode("utf-16-le"), "line 1: a NUL character", "iconv -f UTF-16LE"),
        (b"one\ncaf\xe9\n", "line 2 has the byte 0xe9", "iconv -f LATIN1"),
        (b"one\ntwo\xc3", "line 2 has the byte 0xc3", "iconv"),
        (b"one\rtwo\r", "line 1: a CR without LF", "tr '\\r' '\\n'"),
        (b"one\ntwo\r\r\n", "line 2: a CR without LF", "tr"),
        (b"one\ntwo\r", "line 2: a CR without LF", "tr"),
        (b"one\ntwo two\0two", "line 2: a NUL character", "tr -d '\\000' < t.txt"),
        ("one\ntwo\n".encode("utf-16-be"), "line 1: a NUL character", "iconv -f UTF-16BE"),
        (
            b"one\n\xed\xa0\xbd\xed\xb8\x80\n",
            "line 2 has half of a character (a surrogate)",
            "join the halves: python3",
        ),
    ],
)
def test_text_in_another_encoding_is_an_error_with_the_command_that_converts_it(
    raw: bytes, message: str, hint: str, size: int
) -> None:
    with pytest.raises(DatasetError) as caught:
        count_lines(blocks(raw, size), where="t.txt")
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


def test_the_command_that_joins_surrogate_pairs_restores_the_text(tmp_path: Path) -> None:
    cesu = b"\xc3\xa9\xed\xa0\xbd\xed\xb8\x80\xed\xa0\xbd\n"
    with pytest.raises(DatasetError) as caught:
        count_lines([cesu], where="t.txt")
    (tmp_path / "t.txt").write_bytes(cesu)
    command = str(caught.value.hint).removeprefix("join the halves: ")
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)  # noqa: S602 - the command as a user types it
    assert (tmp_path / "new.txt").read_bytes().decode() == "é\U0001f600\ufffd\n"


@pytest.mark.parametrize(
    "raw", ["one\n".encode("utf-16"), b"\xef\xbb\xbfone\n", b"caf\xe9\n", b"a\0\n", b"one\r", b"\xed\xa0\xbd\n"]
)
def test_a_command_quotes_the_name_of_the_file(raw: bytes) -> None:
    with pytest.raises(DatasetError) as caught:
        count_lines([raw], where="my t.txt")
    assert " 'my t.txt'" in str(caught.value.hint)
