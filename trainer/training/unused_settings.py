"""Settings that no code uses, found by parsing the source of the package and of the experiment without running it.

Two cases are certain: a setting of the experiment that the experiment never mentions, and a setting of the package that is used only with
values of another setting that are not selected. If the experiment imports its own code from other files or names the setting
anywhere, the ledger decides before the first step.
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

_LIBRARIES: Final = {"torch", "numpy", "pydantic", "torchmetrics", "lightning", *sys.stdlib_module_names}
_PACKAGE: Final = ("trainer.training.", "trainer.settings.ledger", "trainer.settings.fields")


def unused_given_settings(resolved: Resolved[Any], text: str, *, package: Path) -> Iterator[SettingError]:
    """Yield an error for each given setting that certainly has no use.

    `text` is the experiment's source, and `package` the folder `trainer/training`.
    """
    module = ast.parse(text)
    if not _is_alone(module):
        return
    kinds = type(resolved.settings)
    bearing = roles(kinds)
    used_words = _words(module)
    for name, origin in resolved.origins.items():
        if not origin.is_given or name in resolved.neutral or bearing[name] is not Role.RESULT or name in used_words:
            continue
        given_by = resolved.files.get(name) or str(origin)
        users = _users_of(name, package)
        if not users and not any(name in getattr(base, "__pydantic_fields__", {}) for base in kinds.__bases__):
            hint = f"no parameter in the experiment is named {name}: add one where it is needed, or omit the setting"
            yield unused(name, given_by, hint=hint)
        elif choices := _not_chosen(users - used_words, users, resolved.settings):
            hint = f"it is used with {' or '.join(choices)}; otherwise omit it"
            yield unused(name, given_by, hint=hint)


def parameter(text: str, name: str) -> tuple[str, int] | None:
    """Return the declaration of a setting `name` for a parameter of this name with a default, and the parameter's line number, or None."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            arguments = node.args
            plain = [*arguments.posonlyargs, *arguments.args]
            named = [*plain[len(plain) - len(arguments.defaults) :], *arguments.kwonlyargs]
            for taken, default in zip(named, [*arguments.defaults, *arguments.kw_defaults], strict=True):
                if taken.arg == name and default is not None:
                    kind = ast.unparse(taken.annotation) if taken.annotation else _kind(default)
                    return f"{name}: {kind} = {ast.unparse(default)}", taken.lineno
    return None


def _kind(default: ast.expr) -> str:
    return type(default.value).__name__ if isinstance(default, ast.Constant) and default.value is not None else "TYPE"


def _is_alone(module: ast.Module) -> bool:
    """Return whether the file and the package hold all code that can use a setting: the file imports no other code of the checkout."""
    names = [
        *(alias.name for node in ast.walk(module) if isinstance(node, ast.Import) for alias in node.names),
        *(
            node.module or "" if not node.level else "."
            for node in ast.walk(module)
            if isinstance(node, ast.ImportFrom)
        ),
    ]
    return all(f"{name}.".startswith(_PACKAGE) or name.partition(".")[0] in _LIBRARIES for name in names)


def _words(module: ast.Module) -> set[str]:
    """Return every name and string in the experiment, except the declarations of its `Settings`."""
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


_NOT_USERS: Final = {"settings.py", f"{__name__.rpartition('.')[2]}.py"}
"""Modules that name settings without using them: their declarations, and this module."""


def _users_of(name: str, package: Path) -> set[str]:
    """Return the configured objects of the package with a parameter of this name; `.` if a settings attribute is read by this name."""
    found: set[str] = set()
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if name not in text or path.name in _NOT_USERS:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                is_configured = any(getattr(mark, "id", None) == configured.__name__ for mark in node.decorator_list)
                if is_configured and any(taken.arg == name for taken in _parameters(node)):
                    found.add(node.name)
            elif isinstance(node, ast.Attribute) and node.attr == name:
                owner = {getattr(node.value, "id", None), getattr(node.value, "attr", None)}
                found.update({"."} if "settings" in owner else ())
    return found


def _parameters(node: ast.FunctionDef | ast.ClassDef) -> Iterator[ast.arg]:
    functions = (
        [node]
        if isinstance(node, ast.FunctionDef)
        else [inner for inner in node.body if isinstance(inner, ast.FunctionDef) and inner.name == "__init__"]
    )
    for function in functions:
        yield from (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)


def _not_chosen(unnamed: set[str], users: set[str], settings: LaunchSettings) -> list[str]:
    """Return the options that would use a setting, such as `--optimizer sgd`; empty if it has other users or such an option is selected."""
    if unnamed != users:
        return []
    fields: Mapping[str, Any] = type(settings).__pydantic_fields__
    found: list[str] = []
    for user in sorted(users):
        others = [other for other, info in fields.items() if user in get_args(info.annotation)]
        if len(others) != 1 or settings.value_of(others[0]) in users:
            return []
        found.append(f"{option(others[0])} {user}")
    return found
