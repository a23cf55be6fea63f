from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.base.digest import canonical
from trainer.base.document import Document, json_value, parse_json, parse_toml, read_json, read_toml
from trainer.base.errors import DocumentError
from trainer.base.plain_text import read_bytes


class Point(Document):
    x: int
    name: str = ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b"[1, 1e999]", "1 holds a number beyond 1.8e308"),
        (b"9007199254740993", "the whole document holds an integer beyond 9007199254740991"),
        (b'{"a": [0, -9007199254740993]}', "a.1 holds an integer beyond 9007199254740991"),
        (b'{"a": {"b": "\\ud800"}}', "a.b holds a lone surrogate"),
        (b'{"a": {"\\udfff": 1}}', "holds a lone surrogate"),
        (b'"\xed\xa0\x80"', "line 1: the byte 0xed is not UTF-8"),
        (b'{"a": 1, "b": 2, "a": 3}', "key a is given twice"),
        (b"[" * 5000 + b"]" * 5000, "brackets"),
        (b"[" * 65 + b"]" * 65, "more than 64 levels"),
        (b"1" * 5000, "digits"),
        (b"[" + b"[]," * 600_000 + b"1]", "1,200,001 items; expected at most 1,000,000"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_json_beyond_the_limits_is_rejected_with_its_key(text: bytes, message: str) -> None:
    with pytest.raises(DocumentError) as error:
        json_value(text, where="a.json")
    assert message in error.value.message
    assert "a.json" in error.value.message


@pytest.mark.parametrize("text", [b"[" * 5000 + b"]" * 5000, b"[" * 65 + b"]" * 65, b'"\\ud800"', b"[1e999]"])
def test_a_whole_document_of_another_kind_is_not_fetched_again(text: bytes) -> None:
    with pytest.raises(DocumentError) as error:
        json_value(text, where="a.json")
    assert "name another file" in str(error.value.hint)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"9007199254740991", 2**53 - 1),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'{"\\u0000\\n": [-0.0, 1e308, true, null]}', {"\0\n": [0.0, 1e308, True, None]}),
        (b"1000000000000000000", 1e18),
        ("[" * 64 + "]" * 64, None),
    ],
)
def test_json_at_the_limits_is_read(text: bytes, value: object) -> None:
    found = json_value(text, where="a.json")
    assert value is None or (found == value and type(found) is type(value))


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53) + 1, 2**53 - 1))
def test_canonical_json_round_trips(value: float) -> None:
    text = canonical({"a": value})
    assert canonical(json_value(text, where="a")) == text


def test_a_document_larger_than_expected_is_rejected() -> None:
    assert parse_json(b'{"x": 1}', Point, where="a", most=8).x == 1
    with pytest.raises(DocumentError, match="a has 9 bytes; expected at most 8"):
        parse_json(b'{"x": 10}', Point, where="a", most=8)


def test_a_document_with_thousands_of_invalid_values_has_a_short_error() -> None:
    class Points(Document):
        points: list[Point]

    with pytest.raises(DocumentError, match="a has 60,000 invalid values") as error:
        parse_json(b'{"points": [' + b"{}," * 59_999 + b"{}]}", Points, where="a")
    assert "name another file" in str(error.value.hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\n" + "a." * 64 + "b = 1", "line 2: a key has more than 64 parts"),
        ("[" + '"a b" . ' * 64 + "b]", "line 1: a key has more than 64 parts"),
        ("a = " + "[" * 64 + "]" * 64, "more than 64 levels"),
        ("a = " + "[" * 5000, "too many nested brackets"),
        ("a = [1, 0x" + "f" * 5000 + "]", "more than 1024 bits"),
        ("\na = 1" + "0" * 5000, "line 2: a number has 5001 digits"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_slow_or_deeply_nested_toml_is_rejected(text: str, message: str) -> None:
    with pytest.raises(DocumentError) as error:
        parse_toml(text, where="a.toml")
    assert message in error.value.message


def test_toml_at_the_limits_is_read() -> None:
    assert (
        parse_toml("a." * 63 + "b = 1\nc = inf\nd = 99999999999999999999", where="a.toml")["d"] == 99999999999999999999
    )


def test_a_special_file_is_rejected_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's address has at most about 100 characters
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for path in (tmp_path / "pipe", tmp_path / "socket", Path("/dev/zero"), tmp_path):
            for read in (read_json, read_toml):
                with pytest.raises(DocumentError):
                    read(path, Point)


def test_a_file_of_more_bytes_than_expected_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DocumentError, match="has 1099511627776 bytes; expected at most 100"):
        read_bytes(tmp_path / "a.json", most=100)
    assert read_bytes(Path("/proc/self/stat"), most=4096)
    with pytest.raises(DocumentError, match="expected at most 3"):
        read_bytes(Path("/proc/self/stat"), most=3)
