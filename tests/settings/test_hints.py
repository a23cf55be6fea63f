"""Hints repeat the typed value in the form of its type, and contain only valid input."""

from __future__ import annotations

import shlex
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field
from pydantic.fields import FieldInfo

from trainer.base.errors import SettingError
from trainer.settings.fields import LaunchSettings, Origin
from trainer.settings.hints import how_to_type
from trainer.settings.origins import Origins, parse_options, resolve


class Kernel(Enum):
    SMALL = "small"
    LARGE = "large"


TYPED: list[tuple[Any, str, str]] = [
    (int, "2.0", "write --x 2"),
    (int, "1e3", "write --x 1000"),
    (int, "007", "write --x 7"),
    (int, "0X10", "write --x 0x10"),
    (int, "\N{MINUS SIGN}5", "write --x -5"),
    (int, '"5"', "write --x 5"),
    (int, "five", "write, for example, --x 8"),
    (float, "9007199254740993", "write --x 9007199254740992.0"),
    (bool, "yes", "write --x or --no-x"),
    (bool | None, "yes", "write --x or --no-x or --x none"),
    (int | str, "5.0", "write --x 5 or --x '\"5.0\"'"),
    (float | str, "nan", "write --x '\"nan\"'"),
    (list[str] | str, "[a]", """write --x '["a"]' or --x '"[a]"'"""),
    (Literal["adamw", "sgd"], "AdamW", "write --x adamw"),
    (Literal["adamw", "sgd"], "adam", "write --x adamw"),
    (Kernel, "SMALL", "write --x small"),
    (list[int], "8,16", "write --x '[8,16]'"),
    (list[int], "(8, 16)", "write --x '[8, 16]'"),
    (list[str], "a, b", """write --x '["a", "b"]'"""),
    (list[int] | None, "", "write --x none or --x '[]'"),
    (set[int], "[1, 2, 1]", "write --x '[1, 2]'"),
    (dict[str, int], "a = 1", "write --x '{a = 1}'"),
    (dict[str, int], "x", """write, for example, --x '{"a": 8}' or --x '{a = 8}'"""),
    (Path, "", "write, for example, --x folder/file"),
    (Path | None, "", "write --x none"),
]


@pytest.mark.parametrize(("annotation", "text", "hint"), TYPED)
def test_a_hint_has_the_form_of_the_type(annotation: Any, text: str, hint: str) -> None:
    kind = type("Row", (LaunchSettings,), {"__annotations__": {"x": annotation}, "__module__": __name__})
    with pytest.raises(SettingError) as caught:
        resolve(kind, Origins(options=parse_options([f"--x={text}"]), environ={}))
    assert caught.value.hint == hint
    words = shlex.split(hint.removeprefix("write, for example, ").removeprefix("write ").split(" or --")[0])
    resolve(kind, Origins(options=parse_options(words), environ={}))


@pytest.mark.parametrize(
    ("annotation", "found", "origin", "hint"),
    [
        (int, "5", Origin.FILE, "write x = 5"),
        (int, 5.0, Origin.FILE, "write x = 5"),
        (bool, 1, Origin.FILE, "write x = true"),
        (list[int], 8, Origin.FILE, "write x = [8]"),
        (set[int], [1, 1], Origin.FILE, "write x = [1]"),
        (dict[str, int], 5, Origin.FILE, "write, for example, x = {a = 8}"),
        (int | None, "none", Origin.FILE, 'write "--x" = "none": TOML has no form for it'),
        (bool, 1, Origin.EXPERIMENT, "write x = True"),
        (str, 5, Origin.EXPERIMENT, "write, for example, x = 'a'"),
        (bool, "on", Origin.ENVIRONMENT, "write REPRISE_SETTING_X=true"),
        (list[int], "8,16", Origin.ENVIRONMENT, "write REPRISE_SETTING_X='[8,16]'"),
    ],
)
def test_a_hint_has_the_syntax_of_the_origin(annotation: Any, found: object, origin: Origin, hint: str) -> None:
    assert how_to_type("x", FieldInfo(annotation=annotation), origin, found=found) == hint


def test_a_described_setting_of_a_plain_type_needs_no_example() -> None:
    info = FieldInfo.from_annotated_attribute(int, Field(default=1, description="Units."))
    assert how_to_type("x", info, Origin.COMMAND_LINE, found="five") is None
