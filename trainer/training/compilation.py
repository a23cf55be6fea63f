"""Compile a net with torch.compile, if the setting `compile` requests it; the names of its weights do not change.

A kernel is compiled for each shape, independent of the shapes before it, and never replaced by the uncompiled code: otherwise the bits of a
step would depend on where the process began, and a resumed run could differ from an uninterrupted run.
"""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torchmetrics import Metric, MetricCollection

from trainer.base.errors import SettingError
from trainer.settings.determinism import Level
from trainer.settings.ledger import configured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import lightning as L

_MOST_SHAPES: Final = 64
"""The maximum number of input shapes for which a net is compiled; a further shape is an error."""
_CONTAINERS: Final = (nn.ModuleList, nn.ModuleDict)


@configured
def compiling(device: str, *, compile: bool, determinism: Level) -> list[CompileNet]:  # noqa: A002 - the setting's name
    """Return the callback that compiles the net, if requested.

    Raise `SettingError` at the level `portable`, or if the environment has no compiler or no `Python.h`.
    """
    if not compile:
        return []
    if determinism is Level.PORTABLE:
        message = "setting compile is on at determinism portable: compiled kernels use the instructions of this CPU"
        raise SettingError(message, hint="use --determinism machine, or --no-compile")
    if missing := _missing(device):
        message = f"setting compile is on, but this environment has no {missing[0]}"
        where = "to `packages` of the environment's file in environments/, then scripts/setup --build"
        hint = f"add {missing[1]} {where}; or use --no-compile"
        raise SettingError(message, hint=hint)
    return [CompileNet()]


def _missing(device: str) -> tuple[str, str] | None:
    """Return a missing requirement of torch.compile, and the Debian packages that provide it; None if nothing is missing."""
    found = next((name for name in ("g++", "clang++", "c++") if shutil.which(name)), None)
    if device == "cpu" and found is None:
        return "C++ compiler, which torch.compile needs on a CPU", '"g++" and "python3-dev"'
    if device != "cpu" and not any(shutil.which(name) for name in ("gcc", "clang", "cc")):
        return "C compiler, which torch.compile needs on a GPU", '"gcc", "libc6-dev" and "python3-dev"'
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "Python.h, which torch.compile needs", '"python3-dev"'
    return None


class CompileNet(Callback):
    """Compiles the net before its first step or evaluation; must be placed after callbacks that call the net to check it."""

    def __init__(self) -> None:
        self.is_compiled = False

    def on_train_start(self, _trainer: object, pl_module: L.LightningModule) -> None:
        """Compile before the first step."""
        self._compile(pl_module)

    def on_validation_start(self, _trainer: object, pl_module: L.LightningModule) -> None:
        """Compile before a validation: a resumed run may have no step left."""
        self._compile(pl_module)

    def on_test_start(self, _trainer: object, pl_module: L.LightningModule) -> None:
        """Compile before the test: a resumed run may have no step left."""
        self._compile(pl_module)

    def _compile(self, net: L.LightningModule) -> None:
        if self.is_compiled:
            return
        self.is_compiled = True
        torch._dynamo.config.recompile_limit = _MOST_SHAPES  # noqa: SLF001 - torch documents it under this name
        torch._dynamo.config.fail_on_recompile_limit_hit = True  # noqa: SLF001
        for part in compiled_parts(net):
            part._compiled_call_impl = torch.compile(_call_of(part), dynamic=False)  # noqa: SLF001 - as `nn.Module.compile` does


def _call_of(module: nn.Module) -> Callable[..., Any]:
    """Return a function that calls the module; `nn.Module.compile` would not compile torch's own layers, such as `Sequential`."""
    uncompiled: Any = module._call_impl  # noqa: SLF001

    def call(*args: Any, **kwargs: Any) -> Any:
        return uncompiled(*args, **kwargs)

    call.__code__ = call.__code__.replace(co_name=f"call_{type(module).__name__}")  # torch counts shapes by code object
    return call


def compiled_parts(net: L.LightningModule) -> Iterator[nn.Module]:
    """Yield the net, and its layers for steps that do not call the net; metrics are omitted because they have a state."""
    yield net
    waiting: list[Any] = [*net.children()]
    while waiting:
        module = waiting.pop(0)
        if isinstance(module, _CONTAINERS):
            waiting += module.children()
        elif not isinstance(module, Metric | MetricCollection) and any(True for _ in module.parameters()):
            yield module
