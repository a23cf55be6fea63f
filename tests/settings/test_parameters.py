"""One name has one type everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.settings.test_ledger import Settings, area
from trainer.base.errors import ExperimentError
from trainer.settings.parameters import configured_parameters, functions_with, parameters_in, require_agreement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

from pathlib import Path as Folder

ROOT = Folder(__file__).parents[2]


def wide(*, width: float) -> float:
    return width


def odd(*, width: str) -> str:
    return width


def unread(*, width: Sequence[int] | Path) -> object:
    return width


def rates(*, rate: float) -> float:
    return rate


def names(*, rate: str) -> str:
    return rate


def given(rate: str) -> str:
    return rate


def test_compatible_types_are_accepted() -> None:
    takers = [each for function in (wide, unread) for each in configured_parameters(function, called=function.__name__)]
    require_agreement(Settings, takers, root=ROOT)


def test_a_parameter_with_another_type_than_the_setting_is_rejected() -> None:
    with pytest.raises(ExperimentError) as caught:
        require_agreement(Settings, configured_parameters(odd, called="odd"), root=ROOT)
    message = caught.value.message
    assert message.startswith("setting width is declared int (tests/settings/test_ledger.py:")
    assert "but odd (tests/settings/test_parameters.py:" in message
    assert message.endswith("takes it as str")


def test_two_parameters_of_one_name_with_different_types_are_rejected() -> None:
    takers = [each for function in (rates, names) for each in configured_parameters(function, called=function.__name__)]
    with pytest.raises(
        ExperimentError, match=r"rate is one name for two types: rates .* takes it as float, and names .* as str"
    ):
        require_agreement(Settings, takers, root=ROOT)
    require_agreement(
        Settings,
        [*configured_parameters(rates, called="rates"), *configured_parameters(given, called="given")],
        root=ROOT,
    )


def test_all_errors_are_reported_at_once() -> None:
    takers = [
        each for function in (odd, rates, names) for each in configured_parameters(function, called=function.__name__)
    ]
    with pytest.raises(ExperimentError, match=r"\(and 1 more\)") as caught:
        require_agreement(Settings, takers, root=ROOT)
    assert "rate is one name for two types" in str(caught.value.hint)


def test_configured_functions_are_found_by_their_parameters() -> None:
    assert area.__module__ == "tests.settings.test_ledger"
    assert {"area", "careless", "nested", "Net"} <= set(functions_with("width"))
    assert {taker.name for taker in parameters_in({"tests.settings.test_ledger"})} >= {
        "width",
        "depth",
        "momentum",
        "widht",
    }
    assert parameters_in({"nowhere"}) == []
