"""Texts: the value of a text for a union, for any order of its types."""

from __future__ import annotations

from itertools import permutations
from typing import Any, Literal, Union

import pytest
from pydantic.fields import FieldInfo

from trainer.settings.texts import takes_texts
from trainer.settings.values import MisfitError, typed_text

UNIONS: list[tuple[tuple[Any, ...], str, object]] = [
    ((int, str), "5", 5),
    ((int, str), '"5"', "5"),
    ((int, str), "0x10", 16),
    ((int, str), "007", "007"),
    ((int, str), "1,000", "1,000"),
    ((int, str), "five", "five"),
    ((int, str), "true", "true"),
    ((int, str), "", ""),
    ((int, str, None), "none", None),
    ((float, str), "1e3", 1000.0),
    ((float, int), "5", 5),
    ((float, int, str), "5.5", 5.5),
    ((bool, int), "1", 1),
    ((bool, int), "true", True),
    ((bool, str), "yes", "yes"),
    ((bool, str), "1", "1"),
    ((Literal["a", "1"], int), "1", 1),
    ((Literal["1e3"], int), "1e3", "1e3"),
    ((Literal["a"], int), "a", "a"),
    ((list[int], str), "[1]", [1]),
    ((list[int], str), "{}", "{}"),
    ((dict[str, int], str), "{a = 1}", {"a": 1}),
    ((None, Literal["none"]), "none", "none"),
]


def in_any_order(kinds: tuple[Any, ...]) -> list[FieldInfo]:
    unions: list[Any] = [Union[order] for order in permutations(kinds)]  # noqa: UP007 - a union of a variable number of types
    return [FieldInfo(annotation=union) for union in unions]


@pytest.mark.parametrize(("kinds", "text", "value"), UNIONS)
def test_a_text_has_the_same_value_in_any_order_of_a_union(kinds: tuple[Any, ...], text: str, value: object) -> None:
    found = [typed_text(info, text) for info in in_any_order(kinds)]
    assert [(type(each), each) for each in found] == [(type(value), value)] * len(found)


@pytest.mark.parametrize(
    ("kinds", "text"),
    [
        ((int, str), "5.0"),
        ((int, str), "1e3"),
        ((int, str), "1e400"),
        ((float, str), "nan"),
        ((float, str), "inf"),
        ((Literal[1], str), "1.0"),
        ((Literal[1], str), "2"),
        ((list[int], str), "[1.5]"),
        ((list[str], str), "[a, b]"),
        ((dict[str, int], str), "{a = 1.5}"),
        ((dict[str, int], str), "{a"),
        ((Literal["a"], int), "5.0"),
        ((int, None), "5.0"),
        ((bool, int), "1.0"),
    ],
)
def test_a_text_in_the_syntax_of_another_union_member_is_not_a_string(kinds: tuple[Any, ...], text: str) -> None:
    for info in in_any_order(kinds):
        with pytest.raises(MisfitError):
            typed_text(info, text)


def test_a_string_type_accepts_every_text_unchanged() -> None:
    assert takes_texts([str, type(None)])
    assert takes_texts([Literal["1"]])
    assert not takes_texts([str, int])
    assert not takes_texts([Literal["1", 2]])
