"""Which settings nothing would take, as the text of the package and of the experiment tells: read, not run.

Knows two cases that are certain: a setting of the experiment's own that nothing mentions, and one of the package's that only the
choices of another setting take, none of which is chosen. Refuses to guess: where the experiment brings code of its own that is not in
its file, or names the setting anywhere, the ledger is the judge, before the first step.
"""

from __future__ import annotations

import ast
import re
import sys
from typing import TYPE_CHECKING, Any, Final, get_args

from trainer.settings.errors import unused
from trainer.settings.fields import Role, roles
from trainer.settings.hints import option
from trainer.settings.ledger import configured

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from trainer.base.errors import SettingError
    from trainer.settings.fields import LaunchSettings
    from trainer.settings.origins import Resolved

_PLAIN: Final = {"torch", "numpy", "pydantic", "torchmetrics", "lightning", *sys.stdlib_module_names}
_OURS: Final = ("trainer.training.", "trainer.settings.ledger", "trainer.settings.fields")


def untaken(resolved: Resolved[Any], text: str, *, package: Path) -> Iterator[SettingError]:
    """Word each setting that was given and that certainly nothing takes; `text` is the experiment's, `package` the folder of trainings."""
    module = ast.parse(text)
    if not _is_alone(module):
        return
    kinds = type(resolved.settings)
    bearing = roles(kinds)
    said = _words(module)
    for name, origin in resolved.origins.items():
        if not origin.is_given or bearing[name] is not Role.RESULT or name in said:
            continue
        takers = _takers(name, package)
        if not takers and not any(name in getattr(base, "__pydantic_fields__", {}) for base in kinds.__bases__):
            hint = f"no parameter in the experiment is called {name}: take it where it is needed, or leave it out"
            yield unused(name, str(origin), hint=hint)
        elif choices := _not_chosen(takers - said, takers, resolved.settings):
            hint = f"it is used with {' or '.join(choices)}; otherwise leave it out"
            yield unused(name, str(origin), hint=hint)


def parameter(text: str, name: str) -> tuple[str, int] | None:
    """Give the line that would declare as a setting what a function of the experiment has as a parameter with a default, and its place."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            for taken, default in _with_defaults(node.args):
                if taken.arg == name and default is not None:
                    kind = ast.unparse(taken.annotation) if taken.annotation else _kind(default)
                    return f"{name}: {kind} = {ast.unparse(default)}", taken.lineno
    return None


def _kind(default: ast.expr) -> str:
    return type(default.value).__name__ if isinstance(default, ast.Constant) and default.value is not None else "TYPE"


def _with_defaults(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    plain = [*arguments.posonlyargs, *arguments.args]
    yield from zip(plain[len(plain) - len(arguments.defaults) :], arguments.defaults, strict=True)
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)


def _is_alone(module: ast.Module) -> bool:
    """Whether all code that can take a setting is in this file and the package: nothing else of the checkout is imported."""
    names = [
        *(alias.name for node in ast.walk(module) if isinstance(node, ast.Import) for alias in node.names),
        *(
            node.module or "" if not node.level else "."
            for node in ast.walk(module)
            if isinstance(node, ast.ImportFrom)
        ),
    ]
    return all(f"{name}.".startswith(_OURS) or name.partition(".")[0] in _PLAIN for name in names)


def _words(module: ast.Module) -> set[str]:
    """Every name and text in the experiment, but those by which its `Settings` declares."""
    found: set[str] = set()
    for top in module.body:
        declares = isinstance(top, ast.ClassDef) and top.name == "Settings"
        for node in ast.walk(top):
            if isinstance(node, ast.Name) and not (declares and isinstance(node.ctx, ast.Store)):
                found.add(node.id)
            elif isinstance(node, ast.arg | ast.keyword):
                found.add(node.arg or "**")
            elif isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.alias):
                found.add(node.name)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not declares:
                found.update(re.findall(r"\w+", node.value))
    return found


def _takers(name: str, package: Path) -> set[str]:
    """What of the package is configured and has a parameter of this name; `.` where one of the settings' is read as an attribute."""
    found: set[str] = set()
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if name not in text or path.name in {"settings.py", "takers.py"}:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and _is_configured(node):
                found.update([node.name] if any(taken.arg == name for taken in _parameters(node)) else [])
            elif isinstance(node, ast.Attribute) and node.attr == name and _is_settings(node.value):
                found.add(".")
    return found


def _is_configured(node: ast.FunctionDef | ast.ClassDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == configured.__name__ for mark in node.decorator_list)


def _is_settings(node: ast.expr) -> bool:
    return "settings" in {getattr(node, "id", None), getattr(node, "attr", None)}


def _parameters(node: ast.FunctionDef | ast.ClassDef) -> Iterator[ast.arg]:
    """A function's own, or those of a class's constructor."""
    functions = (
        [node]
        if isinstance(node, ast.FunctionDef)
        else [inner for inner in node.body if isinstance(inner, ast.FunctionDef) and inner.name == "__init__"]
    )
    for function in functions:
        yield from (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)


def _not_chosen(unnamed: set[str], takers: set[str], settings: LaunchSettings) -> list[str]:
    """The choices that would take a setting, as they are typed, where these are all its takers and another is chosen."""
    if unnamed != takers:
        return []
    fields: Mapping[str, Any] = type(settings).__pydantic_fields__
    found: list[str] = []
    for taker in sorted(takers):
        others = [other for other, info in fields.items() if taker in get_args(info.annotation)]
        if len(others) != 1 or settings.value_of(others[0]) in takers:
            return []
        found.append(f"{option(others[0])} {taker}")
    return found
