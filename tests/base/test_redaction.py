"""Secret values are redacted, in any encoding that occurs in messages."""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.base.redaction import SHORTEST, Redactor, is_secret_name

if TYPE_CHECKING:
    from collections.abc import Callable

SECRETS = st.text(st.characters(blacklist_categories=["Cs"]), min_size=SHORTEST, max_size=60)
FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda value: f"x{value}y",
    "repr": lambda value: repr({"key": value}),
    "json": lambda value: json.dumps({"key": value}),
    "json in UTF-8": lambda value: json.dumps({"key": value}, ensure_ascii=False),
    "url": lambda value: f"https://user:{quote(value, safe='')}@host/",
    "path": lambda value: f"https://host/{quote(value)}/x",
    "query": lambda value: urlencode({"token": value}),
    "form": quote_plus,
    "html": html.escape,
    "hex": lambda value: value.encode().hex(),
}


@given(SECRETS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_value_is_redacted(form: str, value: str) -> None:
    redactor = Redactor()
    redactor.add("TOKEN", value)
    text = FORMS[form](value)
    assert "[redacted: TOKEN]" in redactor.redact(text)


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=60),
    st.binary(max_size=7),
    st.binary(max_size=7),
)
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_of_a_longer_body_is_redacted(
    encode: Callable[[bytes], bytes], value: str, before: bytes, after: bytes
) -> None:
    """In `Authorization: Basic`, the value starts at any of three offsets."""
    redactor = Redactor()
    redactor.add("TOKEN", value)
    assert "[redacted: TOKEN]" in redactor.redact(encode(before + value.encode() + after).decode())


def test_the_longest_value_is_redacted_first() -> None:
    redactor = Redactor()
    redactor.add("PART", "abcdefgh")
    redactor.add("WHOLE", "abcdefghij")
    assert redactor.redact("abcdefghij abcdefgh") == "[redacted: WHOLE] [redacted: PART]"


@pytest.mark.parametrize("behind", [" ...", "...", "..", " ..", "\N{HORIZONTAL ELLIPSIS}", "", "\n", " ...\nmore"])
@pytest.mark.parametrize("length", [SHORTEST, 20, 29])
def test_the_first_part_of_a_value_is_redacted_in_a_cut_text(behind: str, length: int) -> None:
    redactor = Redactor()
    redactor.add("TOKEN", value := "q7Nls7c7hLFzosWTDnOujaydiwxXLX")
    assert redactor.redact(f"key {value[:length]}{behind}") == f"key [redacted: TOKEN]{behind}"
    assert redactor.redact(f"key {value[:length]}-other") == f"key {value[:length]}-other"


def test_short_values_and_other_texts_stay() -> None:
    redactor = Redactor()
    redactor.add("PIN", "1234")
    redactor.add("NONE", None)
    assert redactor.redact("1234 is not found in 12345") == "1234 is not found in 12345"


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("AWS_SECRET_ACCESS_KEY", True),
        ("AWS_SESSION_TOKEN", True),
        ("WANDB_API_KEY", True),
        ("HF_TOKEN", True),
        ("PGPASSWORD", True),
        ("DB_PASSWORD", True),
        ("AWS_ACCESS_KEY_ID", False),
        ("PATH", False),
        ("MONKEY", False),
        ("MYSQL_PWD", True),
        ("PWD", False),
        ("OLDPWD", False),
    ],
)
def test_variables_of_secrets_are_recognized_by_name(name: str, *, secret: bool) -> None:
    assert is_secret_name(name) is secret
