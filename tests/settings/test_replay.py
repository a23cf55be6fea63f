"""Replay: settings that a rerun would read differently from the record are rejected before the first step."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pytest
from pydantic import AfterValidator, BaseModel, Field, SecretStr, field_serializer, field_validator

from trainer.base.errors import SettingError
from trainer.settings.fields import LaunchSettings
from trainer.settings.origins import Origins, parse_options, resolve


class Kernel(Enum):
    SMALL = "small"


class Mode(StrEnum):
    FAST = "fast"


class Size(Enum):
    LARGE = (8, 16)


class Block(BaseModel):
    units: int = Field(default=1, alias="width")


@dataclass
class Window:
    tags: frozenset[str] = frozenset("ab")


class Pair(NamedTuple):
    one: int
    other: float = 0.5


def settings_with(annotation: Any, default: Any) -> object:
    space = {"__annotations__": {"x": annotation}, "__module__": __name__, "x": default}
    kind = type("Row", (LaunchSettings,), space)
    return resolve(kind, Origins(options=parse_options([]), environ={})).settings.value_of("x")


@pytest.mark.parametrize(
    ("annotation", "default", "message"),
    [
        (Kernel | str, Kernel.SMALL, r"would read 'small' \(str\) from the record, not <Kernel.SMALL"),
        (date | str, date(2026, 1, 31), r"would read '2026-01-31' \(str\)"),
        (Path | str, Path("a"), r"would read 'a' \(str\)"),
        (datetime | date, date(2026, 1, 31), r"would read datetime.datetime\(2026, 1, 31, 0, 0\)"),
        (Any, {1}, r"would read \[1\] \(list\) from the record, not \{1\} \(set\)"),
        (list, [timedelta(1)], r"would read \['P1D'\]"),
        (Size, Size.LARGE, r"the record has \[8, 16\] for <Size.LARGE: .*, which a rerun would reject"),
        (dict[tuple[int, int], int], {(1, 2): 3}, "which a rerun would reject"),
        (Annotated[float, AfterValidator(lambda value: value / 100)], 50.0, r"would read 0\.005 \(float\)"),
    ],
)
def test_a_value_that_does_not_round_trip_through_its_record_is_rejected(
    annotation: Any, default: Any, message: str
) -> None:
    with pytest.raises(SettingError, match=f"setting x: .*{message}") as caught:
        settings_with(annotation, default)
    assert str(caught.value.hint).startswith("declare x with a type and validators that reproduce the value")


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (Sequence[int], (8,)),
        (Kernel, Kernel.SMALL),
        (Mode | str, Mode.FAST),
        (Decimal | int, Decimal("0.5")),
        (Block, Block(width=3)),
        (Window, Window()),
        (Pair, Pair(1)),
        (deque[int], deque([1])),
        (dict[Kernel, int], {Kernel.SMALL: 1}),
        (complex, -0.0 - 0.0j),
        (SecretStr, SecretStr("hush")),
        (Annotated[float, AfterValidator(lambda value: max(value, 0.0))], -1.0),
    ],
)
def test_a_value_that_round_trips_is_accepted(annotation: Any, default: Any) -> None:
    kind = type("Row", (LaunchSettings,), {"__annotations__": {"x": annotation}, "__module__": __name__, "x": default})
    assert resolve(kind, Origins(options=parse_options([]), environ={})).settings is not None


class Halved(LaunchSettings):
    percent: float = 0.0

    @field_validator("percent")
    @classmethod
    def _as_share(cls, percent: float) -> float:
        return percent / 100


class Rounded(LaunchSettings):
    rate: float = 0.0

    @field_serializer("rate")
    def _short(self, rate: float) -> float:
        return round(rate, 1)


def test_a_validator_or_serializer_that_is_not_idempotent_is_rejected() -> None:
    with pytest.raises(SettingError, match=r"would read 0\.005 \(float\) from the record, not 0\.5 \(float\)"):
        resolve(Halved, Origins(options=parse_options(["--percent=50"]), environ={}))
    with pytest.raises(SettingError, match=r"would read 0\.1 \(float\) from the record, not 0\.123 \(float\)"):
        resolve(Rounded, Origins(options=parse_options(["--rate=0.123"]), environ={}))
    assert resolve(Halved, Origins(options=parse_options([]), environ={})).settings.percent == 0.0
