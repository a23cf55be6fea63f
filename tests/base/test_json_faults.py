"""The reason why a text is not JSON, with its line and column and in no words of Python."""

from __future__ import annotations

import json

import pytest

from trainer.base.json_faults import json_fault


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "line 1, column 1: expected a value, found the end"),
        (b"{", "line 1, column 2: expected a key in double quotes, found the end"),
        (b"{a: 1}", "line 1, column 2: expected a key in double quotes, found 'a'"),
        (b"[1,\n2 3]", "line 2, column 3: expected a comma or a closing bracket, found '3'"),
        (b'{"a" 1}', "line 1, column 6: expected a colon, found '1'"),
        (b"[1\xc2\xa0, 2]", r"line 1, column 3: expected a comma or a closing bracket, found '\xa0'"),
        (b"{} x", "line 1, column 4: expected the end, found 'x'"),
        (b"[1]\n\n[2]", "line 3, column 1: expected the end, found '['"),
        (b"[1 \n", "line 2, column 1: expected a comma or a closing bracket, found the end"),
        (b'["abc', "line 1, column 2: a string is not closed"),
        (b'"a\nb"', r"line 1, column 3: a string has a control character; expected an escape such as \n"),
        (b'"\\x"', "line 1, column 2: a string has an unknown escape"),
        (b'"\\u12"', r"line 1, column 3: expected four hexadecimal digits after \u"),
        (b"\n\n\xff", "line 3: the byte 0xff is not UTF-8"),
        (b"1" * 5000, "a number has 5,000 digits; expected at most 4,300"),
    ],
    ids=repr,
)
def test_the_reason_has_the_line_and_the_column(text: bytes, reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the kinds of errors of the decoder
        json.loads(text.decode())
    assert json_fault(caught.value) == reason


def test_the_reason_for_one_line_has_no_line() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - as above
        json.loads("[1,")
    assert json_fault(caught.value, is_line=True) == "column 4: expected a value, found the end"
