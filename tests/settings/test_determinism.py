"""Levels of determinism: their variables, and the number of threads."""

from __future__ import annotations

import pytest

from trainer.base.errors import SettingError
from trainer.settings.determinism import Level, capabilities, differing, threads_at, variables


def test_each_level_includes_the_level_below_it() -> None:
    off, machine, portable = (variables(level, threads=1) for level in Level)
    assert off.items() < machine.items() < portable.items()
    assert capabilities(Level.PORTABLE).items() <= portable.items()


@pytest.mark.parametrize(
    ("level", "requested", "threads"), [("machine", None, 2), ("off", 7, 7), ("portable", None, 1), ("portable", 1, 1)]
)
def test_the_number_of_threads_is_fixed_and_never_all_cores(level: str, requested: int | None, threads: int) -> None:
    assert threads_at(Level(level), requested) == threads


def test_portable_has_one_thread() -> None:
    with pytest.raises(SettingError, match="expected 1"):
        threads_at(Level.PORTABLE, 4)


def test_an_unset_variable_is_named() -> None:
    expected = variables(Level.MACHINE, threads=2)
    assert differing(expected, expected) == []
    assert differing(expected, expected | {"MKL_NUM_THREADS": "8"}) == ["MKL_NUM_THREADS: expected '2', found '8'"]
