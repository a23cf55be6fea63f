"""YAML that every parser reads in the same way, such as PyYAML and kubectl's library."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from trainer.sites.yaml_text import yaml_text

TEXTS = st.text() | st.text("a \n\t:#-\"'\\$\u2028\x7f\ufeff\U0001f600", max_size=12)
VALUES = st.recursive(
    st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=3))
def test_a_document_is_read_as_it_was_written(document: dict[str, object]) -> None:
    assert list(yaml.safe_load_all(yaml_text([document, document]))) == [document, document]


@pytest.mark.parametrize(
    "text", ["1e3", "0o17", "0x1f", "1_000", "no", "y", "null", "~", "12:30:00", "2026-11-28", "=", "", "<<"]
)
def test_a_text_that_another_reader_takes_for_a_number_is_quoted(text: str) -> None:
    assert yaml_text([{"value": text, text: 1}]) == f'value: "{text}"\n"{text}": 1\n'


def test_a_program_is_a_block_of_lines() -> None:
    text = yaml_text([{"command": ["python", "-c", "import os\n\nif os:\n    pass\n"]}])
    assert re.search(r"- \|\n    import os\n\n    if os:\n        pass\n", text)
