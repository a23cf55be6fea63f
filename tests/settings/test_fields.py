"""Settings: what an experiment may override, what a setting bears on, and who is told of a read."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import PositiveFloat, SecretStr, ValidationError

from trainer.base.errors import ExperimentError
from trainer.settings.fields import Access, LaunchSettings, Role, author_of, roles, written


class Base(LaunchSettings):
    """What the package declares."""

    learning_rate: PositiveFloat = 1e-3
    """The step size."""
    progress: Annotated[bool, Role.EXECUTION] = True
    """Show a bar."""
    token: SecretStr | None = None
    """A key."""


class Experiment(Base):
    """What an experiment makes of it."""

    learning_rate = 3e-4  # type: ignore[pydantic-field]  # what the package makes possible, pydantic's plugin does not know
    progress: bool = False
    width: int = 8
    """Units."""


def test_an_override_keeps_type_bounds_and_meaning() -> None:
    """An experiment that gives only a value changes only the value."""
    field = Experiment.model_fields["learning_rate"]
    assert (field.default, field.description) == (3e-4, "The step size.")
    with pytest.raises(ValidationError, match="greater than 0"):
        Experiment(learning_rate=-1.0)


def test_an_override_with_an_annotation_keeps_its_mark() -> None:
    """What does not bear on the result does not come to bear on it by being annotated anew."""
    assert roles(Experiment)["progress"] is Role.EXECUTION


def test_an_override_has_the_experiment_for_its_author() -> None:
    """A new field's default is a default; in place of another's it is the experiment's."""
    assert [author_of(Experiment, name) for name in ("learning_rate", "width", "seedless")[:2]] == [
        "experiment",
        "default",
    ]


def test_an_experiment_cannot_set_what_the_launcher_needs() -> None:
    """It is read before the experiment is imported, so the class itself is refused."""
    with pytest.raises(ExperimentError, match="sets threads") as caught:
        type("Late", (Base,), {"threads": 4, "__module__": "late"})
    assert "--threads" in str(caught.value.hint)


def test_settings_are_frozen() -> None:
    """Nothing in a run changes a setting."""
    with pytest.raises(ValidationError, match="frozen"):
        setattr(Experiment(), "width", 9)  # noqa: B010 - the type checker knows it too


def test_secrets_are_never_written_and_never_bear_on_a_result() -> None:
    """A secret is in no document, not even as stars."""
    settings = Experiment(token=SecretStr("hush"))
    assert "token" not in written(settings)
    assert roles(Experiment)["token"] is Role.EXECUTION


def test_a_read_is_told_and_writing_is_no_read() -> None:
    """Attribute access is seen with its place; making a document of all values is not a use of any."""
    settings, seen = Experiment(), list[tuple[str, str]]()

    def reader(access: Access) -> None:
        seen.append((access.name, access.function))

    settings.observe(reader)
    written(settings)
    settings.value_of("width")
    assert settings.width == 8
    assert seen == [("width", "test_a_read_is_told_and_writing_is_no_read")]
