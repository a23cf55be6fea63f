"""Whether two annotations can have a common value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional, TypeVar

import pytest
from pydantic import Field, NonNegativeFloat, PositiveInt, SecretStr

from trainer.settings.determinism import Level
from trainer.settings.type_kinds import agree, resolved

Width = NewType("Width", int)
T = TypeVar("T")


@pytest.mark.parametrize(
    ("declared", "taken"),
    [
        (PositiveInt, int),
        (int, PositiveInt),
        (PositiveInt, float),
        (bool, int),
        (NonNegativeFloat, float),
        (Annotated[float, Field(ge=0, lt=1)], float),
        (int | None, int),
        (int, int | None),
        (int | None, Optional[float]),  # noqa: UP045 - the form in older code
        (int | str, str),
        (Literal["adamw", "sgd"], str),
        (str, Literal["adamw", "sgd"]),
        (Literal["a", "b"], Literal["b"]),
        (Literal["machine"], Level),
        (Level, str),
        (list[int], Sequence[int]),
        (list[int], list[float]),
        (list[int], list),
        (dict[str, int], Mapping[str, int]),
        (tuple[int, int], tuple[int, ...]),
        (Width, int),
        (int, Any),
        (int, object),
        (T, int),
        (int, Callable[[], int]),
        (None, int),
        ("Unknown", int),
    ],
)
def test_compatible_types_agree(declared: Any, taken: Any) -> None:
    assert agree(declared, taken)


@pytest.mark.parametrize(
    ("declared", "taken"),
    [
        (float, int),
        (int, bool),
        (int, str),
        (str, Path),
        (str, list[str]),
        (list[int], int),
        (list[int], list[str]),
        (dict[str, int], dict[str, str]),
        (list[int], tuple[int, ...]),
        (int | float, str),
        (Literal["a", "b"], Literal["c"]),
        (Literal["a", "b"], int),
        (Literal[1, 2], str),
        (SecretStr, str),
        (int | None, str),
    ],
)
def test_incompatible_types_do_not_agree(declared: Any, taken: Any) -> None:
    assert not agree(declared, taken)


def test_a_string_annotation_is_resolved_in_its_module() -> None:
    assert resolved("PositiveInt | None", {"PositiveInt": PositiveInt}) == PositiveInt | None
    assert resolved("Sequence[int]", {}) is Any
    assert resolved("1 +", {}) is Any
    assert resolved(int, {}) is int
