from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

import pytest

from trainer.base.document import Document, read_toml
from trainer.base.errors import DocumentError
from trainer.base.plain_text import decode_text, read_text

if TYPE_CHECKING:
    from pathlib import Path


class Sizes(Document):
    name: str


@pytest.mark.parametrize(
    "raw",
    [
        codecs.BOM_UTF8 + "café\nb".encode(),
        codecs.BOM_UTF16_LE + "café\nb".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "café\nb".encode("utf-16-be"),
        codecs.BOM_UTF32_LE + "café\nb".encode("utf-32-le"),
        codecs.BOM_UTF32_BE + "café\nb".encode("utf-32-be"),
        "café\r\nb".encode(),
        "café\rb".encode(),
        "café\nb".encode(),
    ],
)
def test_every_encoding_with_a_mark_and_every_line_ending_give_the_same_text(raw: bytes) -> None:
    assert decode_text(raw, where="x") == "café\nb"


def test_latin_1_is_rejected_with_its_line_number() -> None:
    with pytest.raises(DocumentError, match=r"t\.csv, line 2: expected UTF-8 text, found the byte 0xe9"):
        decode_text("a\ncafé".encode("latin-1"), where="t.csv")


def test_utf_16_without_a_mark_is_rejected() -> None:
    for encoding, name in (("utf-16-le", "UTF-16LE"), ("utf-16-be", "UTF-16BE")):
        with pytest.raises(DocumentError, match="line 1: expected text, found a NUL") as caught:
            decode_text("ab\ncafé".encode(encoding), where="t.csv")
        assert f"it seems to be {name} without a byte order mark" in str(caught.value.hint)


def test_a_nul_in_other_text_is_rejected() -> None:
    for raw in (b"a\nb\0cd", codecs.BOM_UTF16_LE + "a\nb\0cd".encode("utf-16-le")):
        with pytest.raises(DocumentError, match="line 2: expected text, found a NUL character") as caught:
            decode_text(raw, where="t.csv")
        assert caught.value.hint == "remove it"


def test_an_unpaired_surrogate_is_named() -> None:
    with pytest.raises(DocumentError, match=r"line 2: expected UTF-8 text, found half of a character \(a surrogate\)"):
        decode_text(b"a\n\xed\xa0\xbd\xed\xb8\x80", where="t.csv")


def test_truncated_utf_16_is_rejected() -> None:
    with pytest.raises(DocumentError, match="line 2: expected UTF-16-LE text"):
        decode_text(codecs.BOM_UTF16_LE + "a\nb".encode("utf-16-le") + b"x", where="t.csv")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="does not exist"):
        read_text(tmp_path / "none")


def test_a_declaration_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(codecs.BOM_UTF8 + b'name = "x"\r\n')
    assert read_toml(tmp_path / "a.toml", Sizes).name == "x"
