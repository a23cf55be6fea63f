"""Methods and attributes of a net whose names are misspelled hooks: nothing would use them, and the default would apply silently."""

from __future__ import annotations

import ast
import difflib
import inspect
import sys
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

import lightning as L
from lightning.pytorch.core.hooks import CheckpointHooks, DataHooks, ModelHooks

from trainer.base.errors import ExperimentError
from trainer.training.tasks.task import MADE_AT_SETUP, Task

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMER: Final = {
    "answer_form": "prediction_form",
    "check_labels": "check_values",
    "judged": "metric_inputs",
    "make_kept": "make_output_buffers",
    "note": "record_outputs",
    "odd": "describe_oddity",
    "parted": "split_batch",
}
"""Former names of hooks, by which earlier experiments override them."""
_LIGHTNING: Final = (
    *("forward", "training_step", "validation_step", "test_step", "predict_step", "optimizer_step"),
    *("optimizer_zero_grad", "lr_scheduler_step", "configure_callbacks", "configure_optimizers", "backward"),
    *("configure_gradient_clipping",),
)
_LIBRARIES: Final = ("trainer.training.", "lightning.", "torch.", "builtins")
_NEAR: Final = 0.8
"""Minimum similarity of a name and a hook, from 0 to 1."""


def require_hooks(net: type[L.LightningModule]) -> None:
    """Raise `ExperimentError` for a method or attribute of a task's net that is a misspelled or former hook, or that `setup` replaces.

    The methods of a plain module, which may come from elsewhere, are not rejected: `describe_misspelled_hooks` describes them.
    """
    if not issubclass(net, Task):
        return
    name = net.__name__
    for kind in _own_classes(net):
        for each, value in vars(kind).items():
            if each in MADE_AT_SETUP:
                hint = f"override make_{each}" if hasattr(Task, f"make_{each}") else f"rename {each}"
                message = f"{name} defines {each}, which its task replaces before the first step"
                raise ExperimentError(message, hint=hint)
            if each in FORMER and _is_like(value, getattr(Task, FORMER[each])) and not _is_used(each, net):
                message = f"{name} defines {each}, which nothing calls: the hook's name is {FORMER[each]}"
                raise ExperimentError(message, hint=f"rename {each} to {FORMER[each]}; compare its parameters")
    for each, hooks in misspelled_hooks(net):
        message = f"{name} defines {each}, which nothing uses; a hook of its task is {hooks[0]}"
        hint = f"rename {each} to {' or '.join(hooks)}; if it is your own, give it another name, such as _{each}"
        raise ExperimentError(message, hint=hint)


def describe_misspelled_hooks(net: type[L.LightningModule]) -> list[str]:
    """Return a line for each method of a plain module that is likely to be a misspelled hook."""
    return [
        f"nothing calls {net.__name__}.{name}; the hook of Lightning is {' or '.join(hooks)}"
        for name, hooks in misspelled_hooks(net)
    ]


def misspelled_hooks(net: type[L.LightningModule]) -> Iterator[tuple[str, list[str]]]:
    """Yield each public name of a net's own classes that is likely to be a misspelled hook, and the hooks with similar names.

    The code of the classes does not use the name, the net does not override the hook, and Reprise or Lightning could call the method as the
    hook, or it has a parameter of the hook.
    """
    hooks = _hooks_of(net)
    own = {name: value for kind in reversed(_own_classes(net)) for name, value in vars(kind).items()}
    free = [name for name in hooks if name not in own]
    for name, value in own.items():
        if name.startswith("_") or name in hooks or name in FORMER or hasattr(_base_of(net), name):
            continue
        near = [hook for hook in difflib.get_close_matches(name, free, cutoff=_NEAR) if _is_like(value, hooks[hook])]
        if near and not _is_used(name, net):
            yield name, near


def _base_of(net: type[L.LightningModule]) -> type:
    """Return the nearest LightningModule of a library from which a net derives."""
    own = _own_classes(net)
    return next(kind for kind in net.__mro__ if issubclass(kind, L.LightningModule) and kind not in own)


def _own_classes(net: type) -> list[type]:
    """Return the classes of a net that its author or the author's project defines."""
    return [
        kind
        for kind in net.__mro__
        if not f"{kind.__module__}.".startswith(_LIBRARIES)
        and kind.__module__.partition(".")[0] not in sys.stdlib_module_names
        and not _is_installed(kind)
    ]


def _is_installed(kind: type) -> bool:
    file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    return bool({"site-packages", "dist-packages"} & {*Path(file).parts})


def _hooks_of(net: type[L.LightningModule]) -> dict[str, Any]:
    """Return the names that a net may define for Lightning or for its task, with their values in the base class."""
    base = _base_of(net)
    names = {*_LIGHTNING, *(name for kind in (ModelHooks, DataHooks, CheckpointHooks) for name in vars(kind))}
    for kind in base.__mro__ if issubclass(base, Task) else ():
        if kind.__module__.startswith("trainer.training."):
            names |= {name for name, value in vars(kind).items() if isinstance(value, FunctionType)}
            names |= {name for name, text in vars(kind).get("__annotations__", {}).items() if "ClassVar" in str(text)}
    return {name: getattr(base, name) for name in sorted(names) if not name.startswith("_") and hasattr(base, name)}


def _is_like(value: Any, hook: Any) -> bool:
    """Return whether a value could replace a hook: a plain value an attribute; a method that takes the arguments, or shares a parameter."""
    if not isinstance(value, FunctionType) or not callable(hook):
        return (
            not callable(hook) and not callable(value) and not isinstance(value, property | classmethod | staticmethod)
        )
    wanted = [*inspect.signature(hook).parameters.values()]
    own = inspect.signature(value)
    try:
        own.bind(*wanted)
    except TypeError:
        return bool({*own.parameters} & {each.name for each in wanted} - {"self"})
    return True


def _is_used(name: str, net: type) -> bool:
    """Return whether the code of the net's own classes uses a name outside of its definition; true if the code cannot be read."""
    files = {getattr(sys.modules.get(kind.__module__), "__file__", None) for kind in _own_classes(net)}
    used = [_used_names(file) if file else None for file in files]
    return any(each is None or name in each for each in used)


@cache
def _used_names(file: str) -> frozenset[str] | None:
    """Return the attributes and the strings in a file's code; `None` if it cannot be read.

    An attribute of an imported module, such as `torchvision.transforms`, and of `super()` is not counted.
    """
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    imports = [each for each in ast.walk(tree) if isinstance(each, ast.Import | ast.ImportFrom)]
    modules = {(alias.asname or alias.name).partition(".")[0] for each in imports for alias in each.names}
    modules.add("super")
    found = set()
    for each in ast.walk(tree):
        if isinstance(each, ast.Attribute) and _root(each) not in modules:
            found.add(each.attr)
        elif isinstance(each, ast.Constant) and isinstance(each.value, str) and each.value.isidentifier():
            found.add(each.value)
    return frozenset(found)


def _root(attribute: ast.Attribute) -> str:
    """Return the name at the beginning of a chain of attributes; `super` if the chain begins with a call of `super`."""
    value: ast.expr = attribute
    while isinstance(value, ast.Attribute | ast.Call):
        value = value.value if isinstance(value, ast.Attribute) else value.func
    return value.id if isinstance(value, ast.Name) else ""
