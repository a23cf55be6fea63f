"""Unused settings are reported as in a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from trainer.settings.ledger import call_configured, configured, use_ledger
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.check_result import CheckFailed, CheckNote, NothingToCheck
from trainer.training.checks.short_training import LenientLedger, settings_used
from trainer.training.settings import RegressionSettings

pytestmark = pytest.mark.torch


class Settings(RegressionSettings):
    """Settings of the test."""

    dataset: str = "diabetes"
    width: int = 8
    """Used at the start."""
    bins: int = 8
    """Used only in the test."""


@configured
def start(*, width: int) -> int:
    return width


@configured
def shown(*, bins: int) -> int:
    return bins


def check_used_settings(*words: str, begins: bool = True, starts: bool = True) -> str:
    resolved: Any = resolve(Settings, Origins(options=parse_options(words), environ={}))
    ledger = LenientLedger(resolved)
    with use_ledger(ledger):
        if starts:
            call_configured(start)
        if begins:
            ledger.require_bound()
        call_configured(shown)
    trial: Any = SimpleNamespace(lenient_ledger=ledger, subject=SimpleNamespace(resolved=resolved))
    return settings_used(trial)


def test_settings_used_at_the_start_pass() -> None:
    assert check_used_settings("--width", "4", "--publish", "false")


def test_an_unused_given_setting_fails() -> None:
    with pytest.raises(CheckFailed) as caught:
        check_used_settings("--bins", "3", "--momentum", "0.5")
    assert "setting bins is given (command line), but nothing in this run uses it" in caught.value.message
    assert "setting momentum is given" in caught.value.message


def test_an_unused_own_setting_is_noted() -> None:
    with pytest.raises(CheckNote, match="nothing uses width"):
        check_used_settings(starts=False)


def test_without_a_first_step_settings_are_not_checked() -> None:
    with pytest.raises(NothingToCheck):
        check_used_settings("--bins", "3", begins=False)
