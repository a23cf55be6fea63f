"""Descriptions of types: every form of "expected", with an example that the type admits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType
from uuid import UUID

import pytest
from pydantic import AnyUrl, BaseModel, Field, PositiveInt
from pydantic.fields import FieldInfo
from typing_extensions import TypedDict

from trainer.settings.type_texts import example, expected
from trainer.settings.values import typed_text


class Kernel(Enum):
    SMALL = "small"
    LARGE = "large"


class Order(IntEnum):
    FIRST = 1
    SECOND = 2


class Block(BaseModel):
    units: int
    bias: bool = True


class Tower(BaseModel):
    blocks: list[Block]
    above: Tower | None = None


@dataclass
class Window:
    size: int = 3


class Row(TypedDict):
    name: str
    share: float


class Pair(NamedTuple):
    units: int
    share: float = 0.5


Count = NewType("Count", int)
BLOCK = "units (an integer) and bias (true or false; may be left out)"
FORMS: list[tuple[Any, str]] = [
    (int, "an integer"),
    (float, "a number"),
    (bool, "true or false"),
    (str, "a string"),
    (bytes, "a string"),
    (Path, "a path"),
    (Decimal, "a decimal number"),
    (complex, "a complex number (1+2j)"),
    (date, "a date (2026-01-31)"),
    (datetime, "a date and time (2026-01-31T08:00:00)"),
    (time, "a time (08:00:00)"),
    (timedelta, "a duration (PT90S)"),
    (UUID, "a UUID"),
    (AnyUrl, "a URL"),
    (Any, "any value"),
    (Count, "an integer"),
    (PositiveInt, "an integer"),
    (Literal[1, 2, 3], "1, 2 or 3"),
    (Literal["a"], "'a'"),
    (Literal[True, "auto", 3], "true, 'auto' or 3"),
    (Kernel, "'small' or 'large'"),
    (Order, "1 or 2"),
    (int | None, "an integer or none"),
    (bool | None, "true, false or none"),
    (bool | int, "true, false or an integer"),
    (int | float, "a number"),
    (float | int, "a number"),
    (int | str, "an integer or a string"),
    (Literal["a", "b"] | int, "'a', 'b' or an integer"),
    (list, "a list"),
    (list[Any], "a list"),
    (list[int], "a list of integers"),
    (Sequence[str], "a list of strings"),
    (Iterable[float], "a list of numbers"),
    (list[bool], "a list in which each value is true or false"),
    (list[int | None], "a list in which each value is an integer or none"),
    (list[list[int]], "a list of lists of integers"),
    (list[dict[str, int]], "a list of tables of integers"),
    (list[Block], f"a list of tables with {BLOCK}"),
    (set[int], "a list of integers, each once"),
    (frozenset[Kernel], "a list in which each value is 'small' or 'large', each once"),
    (tuple[int, ...], "a list of integers"),
    (tuple[()], "an empty list"),
    (tuple[int], "a list of an integer"),
    (tuple[float, float], "a list of 2 numbers"),
    (tuple[int, float, str], "a list of an integer, a number and a string"),
    (tuple[bool, bool], "a list of 2 values, each true or false"),
    (list[tuple[int, int]], "a list of lists of 2 integers"),
    (Pair, "a list of an integer and a number"),
    (list[int] | None, "a list of integers or none"),
    (dict, "a table"),
    (dict[str, Any], "a table"),
    (Mapping[str, int], "a table of integers"),
    (dict[str, list[float]], "a table of lists of numbers"),
    (dict[str, bool], "a table in which each value is true or false"),
    (dict[int, int], "a table of integers whose keys are integers"),
    (dict[Kernel, int], "a table of integers whose keys are 'small' or 'large'"),
    (dict[str, Block], f"a table of tables with {BLOCK}"),
    (Block, f"a table with {BLOCK}"),
    (Window, "a table with size (an integer; may be left out)"),
    (Row, "a table with name (a string) and share (a number)"),
    (Tower, "a table with blocks (a list) and above (a table or none; may be left out)"),
    (Callable[[], int], "a value of type Callable"),
]


@pytest.mark.parametrize(("annotation", "words"), FORMS, ids=[words for _, words in FORMS])
def test_a_type_is_described_in_plain_words(annotation: Any, words: str) -> None:
    assert expected(annotation) == words


@pytest.mark.parametrize("annotation", [annotation for annotation, _ in FORMS], ids=[words for _, words in FORMS])
def test_an_example_is_a_value_of_its_type(annotation: Any) -> None:
    text = example(annotation)
    if text is None:
        assert annotation in {Tower, Callable[[], int]}
    else:
        typed_text(FieldInfo(annotation=annotation), text)


def test_a_long_list_of_choices_is_cut() -> None:
    many = Enum("Many", {f"N{number}": number for number in range(20)})  # type: ignore[misc]  # made for the test
    assert expected(many).endswith("9, 10 or one of 9 others")
    assert expected(Annotated[int, Field(gt=0)]) == "an integer"
