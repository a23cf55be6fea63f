"""Levels of determinism: their variables, and the number of threads."""

from __future__ import annotations

import pytest

from trainer.base.errors import SettingError
from trainer.settings.determinism import Level, capabilities, differing, require_one_process, threads_at, variables


def test_each_level_sets_what_the_one_below_it_sets() -> None:
    """`off` fixes the threads, `machine` what changes bits on one machine, `portable` which instructions are used."""
    off, machine, portable = (variables(level, threads=1) for level in Level)
    assert off.items() < machine.items() < portable.items()
    assert capabilities(Level.PORTABLE).items() <= portable.items()


@pytest.mark.parametrize(
    ("level", "asked", "threads"), [("machine", None, 2), ("off", 7, 7), ("portable", None, 1), ("portable", 1, 1)]
)
def test_threads_are_a_number_and_never_all_cores(level: str, asked: int | None, threads: int) -> None:
    """The count changes a result's bits, so it does not depend on the machine."""
    assert threads_at(Level(level), asked) == threads


def test_portable_has_one_thread() -> None:
    """Asking for more is refused, not passed over."""
    with pytest.raises(SettingError, match="expected 1"):
        threads_at(Level.PORTABLE, 4)


def test_a_variable_that_is_not_set_is_named() -> None:
    """Each with what was expected and what is there."""
    expected = variables(Level.MACHINE, threads=2)
    assert differing(expected, expected) == []
    assert differing(expected, expected | {"MKL_NUM_THREADS": "8"}) == ["MKL_NUM_THREADS: expected '2', found '8'"]


def test_several_devices_are_refused_where_bits_are_promised() -> None:
    """By name, before anything starts; at `off` they are not."""
    require_one_process(Level.OFF, 2)
    require_one_process(Level.MACHINE, 1)
    with pytest.raises(SettingError, match="devices is 2 at determinism machine"):
        require_one_process(Level.MACHINE, 2)
