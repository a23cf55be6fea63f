"""Declarations that no setting can have are rejected by file and line, when the class is created or its types are resolved."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from trainer.base.errors import ExperimentError
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.experiment import _from_path

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """from __future__ import annotations
from pydantic import Field
from torch import nn
from trainer.settings.fields import LaunchSettings

class Settings(LaunchSettings):
    y: int = 1
"""


def declared(folder: Path, lines: str, *, below: str = "") -> Any:
    file = folder / "mine.py"
    file.write_text(f"{HEAD}{lines}\n{below}")
    try:
        module = _from_path(file)
        return resolve(module.Settings, Origins(options=parse_options([]), environ={})).settings
    finally:
        sys.modules.pop("experiment_mine", None)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("    x: int = Field(3, alias='xx')", "mine.py:8: setting x has an alias"),
        ("    x: int = Field(3, validation_alias='xx')", "mine.py:8: setting x has an alias"),
        ("    x: int = Field(3, serialization_alias='xx')", "mine.py:8: setting x has an alias"),
        ("    x: int = Field(3, exclude=True)", "mine.py:8: setting x is excluded from documents"),
        ("    import math\n    x: int = 3", "mine.py:8: math is imported in the class Settings"),
        ("    from pathlib import Path\n    x: int = 3", "mine.py:8: Path is imported in the class Settings"),
        (
            "    x: nn.Module | None = None",
            r"mine.py:8: setting x has the type nn.Module \| None, which a document cannot represent",
        ),
        (
            "    x: list[nn.Module] = []",
            r"mine.py:8: setting x has the type list\[nn.Module\], which a document cannot represent",
        ),
        ("    x: Missing = 3", "mine.py:8: setting x has the type Missing, which is not defined"),
        ("    x: list[Missing] = []", r"mine.py:8: setting x has the type list\[Missing\], which is not defined"),
    ],
)
def test_a_declaration_without_a_setting_is_rejected_with_its_line(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message) as caught:
        declared(tmp_path, lines)
    assert caught.value.hint


def test_a_type_may_be_defined_below_the_class_and_a_class_within_it(tmp_path: Path) -> None:
    below = "from enum import Enum\nclass Kernel(Enum):\n    SMALL = 'small'\n"
    lines = "    class Inner:\n        a = 1\n    kernel: Kernel = 'small'\n    kind: type = Inner\n"
    with pytest.raises(Exception, match="a value of type type, which a record cannot store"):
        declared(tmp_path, lines, below=below)
    assert declared(tmp_path, "    kernel: Kernel = 'small'", below=below).kernel.value == "small"


@pytest.mark.parametrize(
    "name", ["training", "device", "logger", "name", "forward", "match", "type", "x1", "a__b", "a_"]
)
def test_names_of_torch_lightning_and_python_are_allowed(tmp_path: Path, name: str) -> None:
    settings = declared(tmp_path, f"    {name}: int = 3")
    assert settings.value_of(name) == 3
    option = f"--{name.replace('_', '-')}=4"
    assert resolve(type(settings), Origins(options=parse_options([option]), environ={})).settings.value_of(name) == 4
