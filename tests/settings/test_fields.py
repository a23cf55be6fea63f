"""Settings: which can be overridden, their roles, and the observers of reads."""

from __future__ import annotations

import sys
from typing import Annotated

import pytest
from pydantic import PositiveFloat, SecretStr, ValidationError

from trainer.base.errors import ExperimentError
from trainer.settings.declarations import require_fields
from trainer.settings.fields import LaunchSettings, Role, SettingAccess, author_of, roles, settings_document
from trainer.settings.values import typed_default
from trainer.training import settings as training_settings


class Base(LaunchSettings):
    """What the package declares."""

    learning_rate: PositiveFloat = 1e-3
    """The step size."""
    progress: Annotated[bool, Role.EXECUTION] = True
    """Show a bar."""
    token: SecretStr | None = None
    """A key."""


class Experiment(Base):
    learning_rate = 3e-4  # type: ignore[pydantic-field]  # pydantic's mypy plugin does not support an override without an annotation
    progress: bool = False
    width: int = 8
    """Units."""


def test_an_override_keeps_type_bounds_and_meaning() -> None:
    field = Experiment.model_fields["learning_rate"]
    assert (field.default, field.description) == (3e-4, "The step size.")
    with pytest.raises(ValidationError, match="greater than 0"):
        Experiment(learning_rate=-1.0)


def test_an_annotated_override_keeps_its_role() -> None:
    assert roles(Experiment)["progress"] is Role.EXECUTION


def test_an_override_has_the_experiment_as_its_origin() -> None:
    assert [author_of(Experiment, name) for name in ("learning_rate", "width", "seedless")[:2]] == [
        "experiment",
        "default",
    ]


def test_an_experiment_cannot_set_what_the_launcher_needs() -> None:
    with pytest.raises(ExperimentError, match="sets threads") as caught:
        type("Late", (Base,), {"threads": 4, "__module__": "late"})
    assert "--threads" in str(caught.value.hint)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(Experiment(), "width", 9)  # noqa: B010 - mypy would reject the assignment


def test_secrets_are_never_written_and_never_part_of_the_identity() -> None:
    settings = Experiment(token=SecretStr("hush"))
    assert "token" not in settings_document(settings)
    assert roles(Experiment)["token"] is Role.EXECUTION


def test_a_read_is_reported_and_serializing_is_not_a_read() -> None:
    settings, reads = Experiment(), list[tuple[str, str]]()

    def reader(access: SettingAccess) -> None:
        reads.append((access.name, access.function))

    settings.observe(reader)
    settings_document(settings)
    settings.value_of("width")
    assert settings.width == 8
    assert reads == [("width", "test_a_read_is_reported_and_serializing_is_not_a_read")]


def _package_settings() -> list[type[LaunchSettings]]:
    return [LaunchSettings] + [
        kind for kind in vars(training_settings).values() if isinstance(kind, type) and issubclass(kind, LaunchSettings)
    ]


@pytest.mark.parametrize("settings", _package_settings(), ids=lambda kind: kind.__name__)
def test_each_setting_of_the_package_has_a_type_and_a_default_of_that_type(settings: type[LaunchSettings]) -> None:
    require_fields(settings.__pydantic_fields__, sys._getframe())
    for info in settings.__pydantic_fields__.values():
        typed_default(info)
    assert [name for name, info in settings.__pydantic_fields__.items() if not info.description] == []


# fmt: off
class Spread(
    Base,
):
    first: int = 1
    """The first."""
# a comment at column 0
    second: str = """
text at column 0
"""
    """The
    second."""
    third: int = 3
# fmt: on


def test_a_class_over_several_lines_keeps_the_texts_below_its_fields() -> None:
    fields = Spread.model_fields
    assert [fields[name].description for name in ("first", "second", "third")] == ["The first.", "The\nsecond.", None]


def test_a_class_in_a_function_keeps_the_texts_below_its_fields() -> None:
    class Inner(Base):
        inner: int = 1
        """The inner."""

    assert Inner.model_fields["inner"].description == "The inner."
