"""Detailed observation of a few steps: hashes of all values at every module, and operations in a selected window.

It changes no value; `trainer.comparison.observation` compares the observations. It hashes every bit and is slow, so it runs for a few
steps only.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import torch
from lightning.pytorch.callbacks import Callback
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from xxhash import xxh3_64_hexdigest

from trainer.comparison.observation import Kind, ObservedValue, Operation
from trainer.settings.ledger import call_configured, use_ledger
from trainer.training.fit import prepare, small_trainer
from trainer.training.step_callbacks import SeedEveryStep
from trainer.training.tracing.fingerprints import memory_of, tensors_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import lightning as L
    from torch import Tensor, nn

    from trainer.settings.ledger import Ledger
    from trainer.training.assembly import FetchedDataset
    from trainer.training.experiment import Experiment

_LONGEST: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedTraining:
    """The inputs of an observation."""

    experiment: Experiment
    ledger: Ledger
    datasets: Sequence[FetchedDataset]
    device: str
    steps: int
    folder: Path
    """The folder for the files that Lightning may write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The window in which operations are recorded: a call of the module `name` or, without a name, a part of a step."""

    step: int
    name: str | None = None
    call: int = 1
    part: Literal["forward", "backward", "optimizer"] = "forward"


def observe(subject: ObservedTraining, *, window: Window | None = None) -> Observer:
    """Create a net, train a few steps, and return the observed values."""
    with use_ledger(subject.ledger):
        net, data = prepare(subject.experiment, subject.datasets)
        observer = Observer(window)
        callbacks = [call_configured(SeedEveryStep), observer]
        options: dict[str, Any] = {"max_steps": subject.steps, "logger": False, "callbacks": callbacks}
        small_trainer(subject.device, subject.folder, **options).fit(net, datamodule=data)
    return observer


class Observer(Callback):
    """Records every value and, within `window`, every operation."""

    def __init__(self, window: Window | None = None) -> None:
        self.values: list[ObservedValue] = []
        self.ops: list[Operation] = []
        self.window = window
        self.step = 0
        self.calls: Counter[str] = Counter()
        self.mode: Any = None

    def on_train_start(self, _trainer: object, pl_module: L.LightningModule) -> None:
        """Record the initial state; add hooks to every module."""
        self._state(Kind.START, pl_module)
        for name, module in pl_module.named_modules():
            module.register_forward_pre_hook(self._entering(name), with_kwargs=True)
            module.register_forward_hook(self._leaving(name))

    def on_train_batch_start(self, _trainer: object, _net: object, batch: object, *_: object) -> None:
        """Record the step's batch."""
        self.step += 1
        self.calls.clear()
        self._note(Kind.BATCH, "", 1, *tensors_in(batch))
        self._part("forward")

    def on_before_backward(self, *_: object) -> None:
        """Begin the backward pass."""
        self._part("backward")

    def on_before_optimizer_step(self, _trainer: object, pl_module: L.LightningModule, *_: object) -> None:
        """Record every complete gradient."""
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None:
                self._note(Kind.GRADIENT, name, 1, parameter.grad)
        self._part("optimizer")

    def on_train_batch_end(self, _trainer: object, pl_module: L.LightningModule, *_: object) -> None:
        """Record every weight and buffer."""
        self._shut()
        self._state(Kind.WEIGHT, pl_module)

    def _state(self, kind: Kind, net: nn.Module) -> None:
        for name, value in [*net.named_parameters(), *net.named_buffers()]:
            self._note(kind, name, 1, value)

    def _entering(self, name: str) -> Any:
        def hook(module: nn.Module, given: Any, named: Any) -> None:
            del module
            self.calls[name] += 1
            self._note(Kind.INPUT, name, self.calls[name], *tensors_in([given, named]))
            if self.window == Window(step=self.step, name=name, call=self.calls[name]):
                self._open()

        return hook

    def _leaving(self, name: str) -> Any:
        def hook(module: nn.Module, given: Any, gave: Any) -> None:
            del module, given
            call, step = self.calls[name], self.step
            if self.window == Window(step=step, name=name, call=call):
                self._shut()
            outputs = list(tensors_in(gave))
            self._note(Kind.OUTPUT, name, call, *outputs)
            for output in outputs:
                if output.requires_grad:
                    cast("Any", output).register_hook(lambda gradient: self._note(Kind.BACKWARD, name, call, gradient))

        return hook

    def _note(self, kind: Kind, name: str, call: int, *tensors: Tensor) -> None:
        self.values.append(ObservedValue(self.step, kind, name, call, prints(tensors)))

    def _part(self, part: Literal["forward", "backward", "optimizer"]) -> None:
        if self.window is None or self.window.name is None:
            self._shut()
            if self.window == Window(step=self.step, part=part):
                self._open()

    def _open(self) -> None:
        self.mode = Operations(self.ops)
        self.mode.__enter__()

    def _shut(self) -> None:
        if self.mode is not None:
            self.mode.__exit__(None, None, None)
            self.mode = None


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch has no types here
    """Records the inputs and outputs of each torch operation."""

    def __init__(self, into: list[Operation]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.into = into
        self.raw: set[int] = set()
        """Addresses of memory that is allocated but not yet written: its contents are undefined."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Execute the operation, and record its inputs before and its outputs after it."""
        del types
        leaves = tree_leaves([args, kwargs or {}])
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        given = prints([one for one in tensors if one.data_ptr() not in self.raw])
        numbers = repr([leaf for leaf in leaves if isinstance(leaf, bool | int | float | complex)])
        gave = func(*args, **(kwargs or {}))
        made_now = [leaf for leaf in tree_leaves(gave) if isinstance(leaf, torch.Tensor)]
        if "empty" in str(func) or "aten.set_" in str(func):
            self.raw |= {one.data_ptr() for one in made_now}
            return gave
        self.raw -= {one.data_ptr() for one in made_now}
        self.into.append(Operation(str(func), given, prints(made_now), numbers[:_LONGEST]))
        return gave


def prints(tensors: Any) -> str:
    """Return a fingerprint of all bits, shapes and dtypes of the tensors."""
    with _disable_current_modes():
        parts = [f"{tuple(one.shape)}{one.dtype}{xxh3_64_hexdigest(memory_of(one.detach().cpu()))}" for one in tensors]
    return xxh3_64_hexdigest("".join(parts).encode())
