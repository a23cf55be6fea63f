"""Invalid names of settings are rejected where they are declared, before and after torch is imported."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from trainer.base.errors import ExperimentError
from trainer.cli.train import command_line
from trainer.settings.declarations import OPTIONS
from trainer.settings.fields import LaunchSettings
from trainer.training.declared_settings import misnamed
from trainer.training.settings import ClassificationSettings

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """from trainer.training.tasks.classification import ClassificationSettings
from pydantic import PrivateAttr
from typing import ClassVar
"""
WRONG = [
    ("value_of: int = 3", "value_of", "method or attribute"),
    ("observe: int = 3", "observe", "method or attribute"),
    ("model_dump: int = 3", "model_dump", "method or attribute"),
    ("model_config: int = 3", "model_config", "method or attribute"),
    ("dict: int = 3", "dict", "method or attribute"),
    ("copy: int = 3", "copy", "method or attribute"),
    ("construct: int = 3", "construct", "method or attribute"),
    ("value_of = 3", "value_of", "method or attribute"),
    ("self: int = 3", "self", "method or attribute"),
    ("exp: int = 3", "exp", "--exp is an option of reprise train"),
    ("json: int = 3", "json", "--json is an option of reprise"),
    ("resume: int = 3", "resume", "--resume is an option of reprise train"),
    ("help: int = 3", "help", "--help is an option"),
    ("settings: int = 3", "settings", "--settings is an option"),
    ("_hidden: int = 3", "_hidden", "lower-case letters"),
    ("Width: int = 3", "Width", "lower-case letters"),
    ("größe: int = 3", "größe", "lower-case letters"),
]


@pytest.mark.parametrize(("line", "name", "why"), WRONG)
def test_an_invalid_name_is_rejected_with_its_line_early_and_late(
    tmp_path: Path, line: str, name: str, why: str
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"{HEAD}class Settings(ClassificationSettings):\n    dataset = 'd'\n    {line}\n", encoding="utf-8")
    found = misnamed(file.read_text(encoding="utf-8"))
    if name != "model_config":  # pydantic uses this name itself
        assert found is not None
        assert (found[0], found[2]) == (name, 6)
        assert why in found[1]
    code = compile(file.read_text(encoding="utf-8"), str(file), "exec")
    with pytest.raises(ExperimentError) as caught:
        exec(code, {"__name__": "mine"})  # noqa: S102 - code of this test
    assert caught.value.message.startswith(f"mine.py:6: no setting can be named {name}: ")
    assert why in caught.value.message
    assert caught.value.hint == f"give {name} another name"


@pytest.mark.parametrize(
    "line",
    [
        "_cache: int = PrivateAttr(0)",
        "_cache = 3",
        "KINDS: ClassVar[int] = 3",
        "learning_rate = 3e-4",
        "width: int = 3",
        "model_config = {}",
    ],
)
def test_names_that_are_not_settings_are_free(line: str) -> None:
    text = f"{HEAD}class Settings(ClassificationSettings):\n    {line}\n"
    assert misnamed(text) is None
    exec(compile(text, "mine.py", "exec", dont_inherit=True), {"__name__": "mine"})  # noqa: S102 - code of this test


@pytest.mark.parametrize(
    ("space", "name"),
    [
        ({"bias": "bool", "no_bias": "bool"}, "no_bias"),
        ({"bias": "bool | None", "no_bias": "int"}, "no_bias"),
        ({"no_progress": "bool"}, "no_progress"),
    ],
)
def test_a_name_that_is_the_negation_of_a_flag_is_rejected(space: dict[str, str], name: str) -> None:
    fields = dict.fromkeys(space)
    with pytest.raises(ExperimentError, match=rf"no setting can be named {name}: --{name.replace('_', '-')} sets"):
        type("Mine", (ClassificationSettings,), {"__annotations__": space, "__module__": __name__, **fields})


def test_a_no_prefix_is_allowed_if_the_rest_is_not_a_flag() -> None:
    class Mine(LaunchSettings):
        bias: int = 0
        no_bias: bool = False

    assert "no_bias" in Mine.__pydantic_fields__


def parser(command: str) -> Any:
    return import_module(f"trainer.cli.{command}")._parser()


@pytest.mark.parametrize("command", [command for command in OPTIONS if command != "train"])
def test_the_table_has_every_option_of_every_command_that_takes_settings(command: str) -> None:
    found = {word[2:].replace("-", "_") for word in parser(command)._option_string_actions if word.startswith("--")}
    assert found <= {*OPTIONS[command]}
    assert {*OPTIONS[command]} - found <= {"exp", "settings"}


def test_the_table_has_every_command_that_takes_settings() -> None:
    from pathlib import Path

    import trainer.cli

    folder = Path(trainer.cli.__file__).parent
    takes = {path for path in folder.rglob("*.py") if ".parse_known_args(argv" in path.read_text(encoding="utf-8")}
    assert {path.parent.name if path.name == "__init__.py" else path.stem for path in takes} | {"train"} == {*OPTIONS}


def test_an_experiment_is_rejected_before_it_is_imported() -> None:
    with pytest.raises(ExperimentError, match=r"mine\.py:5: no setting can be named exp"):
        command_line._require_declarations(
            f"{HEAD}class Settings(ClassificationSettings):\n    exp: int = 3\n", file="mine.py"
        )


def test_a_one_shot_iterable_is_not_a_setting() -> None:
    text = "from collections.abc import Iterable\nfrom trainer.settings.fields import LaunchSettings\n"
    text += "class Settings(LaunchSettings):\n    x: Iterable[int] = ()\n"
    with pytest.raises(ExperimentError, match="setting x is declared as an iterable, which can be read only once"):
        exec(compile(text, "mine.py", "exec", dont_inherit=True), {"__name__": "mine"})  # noqa: S102 - code of this test
