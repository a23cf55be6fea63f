"""The ledger: functions bound to a setting, code that reads it, and unused settings."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING, Any

import pytest

from trainer.base.errors import SettingError
from trainer.settings.fields import LaunchSettings
from trainer.settings.ledger import Ledger, adopt, call_configured, configured, use_ledger
from trainer.settings.origins import Origins, parse_options, resolve

if TYPE_CHECKING:
    from collections.abc import Callable


class Settings(LaunchSettings):
    """Some settings."""

    width: int = 8
    """Units."""
    depth: int = 2
    """Layers."""
    momentum: float = 0.9
    """Carried on."""


@configured
def area(*, width: int, depth: int = 1) -> int:
    return width * depth


@configured
def careless(*, width: int, momentum: float) -> int:  # noqa: ARG001 - the test is about unused arguments
    return width


@configured
def nested(*, width: int) -> Callable[[], int]:
    return lambda: width


class Plain:
    """A base."""


@configured
class Net(Plain):
    def __init__(self, *, width: int) -> None:
        self.width = width


@configured
def lost(*, widht: int) -> int:
    return widht


def opened(*argv: str) -> Ledger:
    return Ledger(resolve(Settings, Origins(options=parse_options(argv), environ={})))


def test_omitted_parameters_are_injected() -> None:
    with use_ledger(opened("--width", "3")):
        assert call_configured(area) == 6
        assert call_configured(area, width=10) == 20
        assert call_configured(Net).width == 3


def test_outside_of_a_run_nothing_is_injected() -> None:
    assert area(width=4) == 4
    with pytest.raises(TypeError):
        call_configured(area)


def test_a_class_keeps_its_identity() -> None:
    assert isinstance(Net, type)
    assert issubclass(Net, Plain)


def test_the_ledger_records_bound_functions() -> None:
    ledger = opened()
    with use_ledger(ledger):
        call_configured(area)
        call_configured(nested)
    entry = ledger.entries()["width"]
    assert [place.split(" ")[0] for place in entry.bound] == ["area", "nested"]
    assert entry.read == entry.bound
    assert "test_ledger.py:" in entry.bound[0]


def test_a_bound_parameter_that_is_never_loaded_is_unread() -> None:
    ledger = opened()
    with use_ledger(ledger):
        call_configured(careless)
    assert ledger.unread() == ["momentum", "depth"]
    assert ledger.idle() == ["depth"]  # nothing was bound to this setting


def test_a_given_setting_without_a_use_is_an_error() -> None:
    ledger = opened("--momentum", "0.5")
    with use_ledger(ledger):
        call_configured(area)
    with pytest.raises(SettingError, match="momentum is given \\(command line\\), but nothing in this run uses it"):
        ledger.require_bound()


def test_an_attribute_read_is_recorded() -> None:
    found: Any = resolve(Settings, Origins(options=parse_options(["--depth", "4"]), environ={}))
    ledger = Ledger(found)
    assert found.settings.depth == 4
    ledger.require_bound()
    assert "test_an_attribute_read_is_recorded" in ledger.entries()["depth"].read[0]


def test_an_unknown_parameter_is_named() -> None:
    with use_ledger(opened()), pytest.raises(SettingError, match="lost needs 'widht'") as caught:
        call_configured(lost)
    assert "width" in str(caught.value.hint)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # later Pythons warn about threads
def test_a_read_in_a_forked_process_is_recorded() -> None:
    found: Any = resolve(Settings, Origins(options=parse_options(["--depth", "4", "--width", "3"]), environ={}))
    ledger = Ledger(found)
    with use_ledger(ledger):
        child = os.fork()
        if child == 0:
            used = call_configured(area) + found.settings.depth
            os._exit(0 if used == 16 else 1)
        assert os.waitpid(child, 0)[1] == 0
    ledger.require_bound()
    entry = ledger.entries()["depth"]
    assert entry.bound == [entry.read[0]]
    assert "test_a_read_in_a_forked_process_is_recorded" in entry.read[1]


def _use(ledger: Ledger, settings: Settings) -> None:
    adopt(ledger)
    raise SystemExit(0 if call_configured(area) + settings.depth == 16 else 1)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_read_in_a_spawned_process_is_recorded(method: str) -> None:
    found: Any = resolve(Settings, Origins(options=parse_options(["--depth", "4", "--width", "3"]), environ={}))
    ledger = Ledger(found)
    process: Any = multiprocessing.get_context(method)
    child = process.Process(target=_use, args=(ledger, found.settings))
    child.start()
    child.join()
    assert child.exitcode == 0
    ledger.require_bound()
    entry = ledger.entries()["depth"]
    assert entry.bound == [entry.read[0]]
    assert entry.read[1].startswith("_use (test_ledger.py:")


def test_serializing_settings_is_not_a_read() -> None:
    found: Any = resolve(Settings, Origins(options=parse_options(["--depth", "4"]), environ={}))
    ledger = Ledger(found)
    assert found.settings.model_dump()["depth"] == 4
    assert '"depth":4' in found.settings.model_dump_json()
    assert dict(found.settings)["depth"] == 4
    assert "depth=4" in repr(found.settings)
    assert ledger.entries()["depth"].read == []
    assert ledger.unbound() == ["depth"]
