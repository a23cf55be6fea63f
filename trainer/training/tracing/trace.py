"""The tracer, which writes a line of the trace for each optimizer step and each evaluation, and the writer of the final tensors.

The tracer does not affect training: it draws no random numbers, and does not synchronize with a device within a step. On a CPU it writes
a line with one write call at the end of a step, so that the line survives a kill. On a GPU values stay on the device; many steps are
fetched at once, and are written before each checkpoint.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import torch
from lightning.pytorch.callbacks import Callback
from xxhash import xxh3_64_hexdigest

from trainer.base.digest import canonical, digest_of_document
from trainer.comparison.trace import FILE
from trainer.comparison.trace_lines import Evaluation, Step, TraceHeader, layout_of, prints_of
from trainer.settings.ledger import configured
from trainer.training.atomic_write import replacing, write_whole
from trainer.training.logs.log_file import LogFile
from trainer.training.results import evaluated
from trainer.training.shards.parts import is_part, norm_over_ranks
from trainer.training.shards.tree import begin_every_rank
from trainer.training.tensor_file import in_library_order, write_tensor_file
from trainer.training.tracing.fingerprints import (
    DeviceIntegers,
    HostIntegers,
    state_of_generators,
    tensors_in,
    weights_of,
)
from trainer.training.tracing.part_fingerprints import PartIntegers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import lightning as L
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from trainer.training.tracing.fingerprints import Integers

_ZERO: Final = torch.zeros(())
FORMAT = "reprise.tensors/1"


@dataclass(slots=True, kw_only=True)
class StepParts:
    """The incomplete line of a step; some values may still be on the device."""

    data: list[Integers] = field(default_factory=list)
    losses: list[Integers] = field(default_factory=list)
    norm: list[Integers] = field(default_factory=list)
    weights: list[Integers] = field(default_factory=list)
    gradients: list[Integers] = field(default_factory=list)
    schedules: dict[int, list[float]] = field(default_factory=dict)
    """The hyperparameters of each optimizer at its last step, by the optimizer's ID."""
    values: dict[str, Any] = field(default_factory=dict)
    """Other values that are not on a device."""

    def parts(self) -> list[Integers]:
        """Return every part, in the order that `line` expects."""
        return [*self.data, *self.losses, *self.norm, *self.weights, *self.gradients]

    def line(self, fetched: Iterator[list[int]]) -> Step:
        """Return the record of the step."""
        data, losses, norm, weights, gradients = (
            [value for _ in kind for value in next(fetched)]
            for kind in (self.data, self.losses, self.norm, self.weights, self.gradients)
        )
        return Step(
            data=xxh3_64_hexdigest(_packed(data)),
            loss=_packed(losses).hex(),
            gradient=_packed(norm).hex(),
            weights=xxh3_64_hexdigest(_packed(weights)),
            tensors=prints_of(weights),
            gradients=prints_of(gradients) if self.gradients else None,
            **self.values,
        )


class Tracer(Callback):
    """Writes `trace.jsonl` into the attempt's folder; with `full`, include the fingerprint of each gradient."""

    integers: HostIntegers

    def __init__(self, folder: Path, *, full: bool = False, integers: HostIntegers | None = None) -> None:
        """Append to the trace in `folder`; the default of `integers` depends on the device. A resumed run's file has the earlier lines."""
        self.file = LogFile(folder / FILE)
        self.full = full
        self.chosen = integers
        self.step = StepParts()
        self.pending: list[StepParts] = []
        self.arriving: list[Callable[[], Any]] = []
        """Functions that wait for the fingerprints of the current batch from all ranks and return them."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Determine the traced tensors, and write their names at the start of the file."""
        self.weights = list(weights_of(pl_module))
        self.has_parts = any(is_part(owner[name]) for _, owner, name in self.weights)
        usual = HostIntegers() if pl_module.device.type == "cpu" else DeviceIntegers()
        self.integers = self.chosen or (PartIntegers(usual.most_steps) if self.has_parts else usual)
        self.parameters = [value for _, value in pl_module.named_parameters()]
        self.before = trainer.global_step
        if trainer.is_global_zero and not (self.file.path.exists() and self.file.path.stat().st_size):
            self.file.append(self._header(trainer, pl_module).to_line())

    def on_train_batch_start(self, _trainer: object, _net: object, batch: object, *_: object) -> None:
        """Fingerprint the step's batch before any code can change it."""
        given = list(tensors_in(batch))
        if given:
            self.arriving.append(begin_every_rank(self.integers.prints(given)))

    def on_before_optimizer_step(self, trainer: L.Trainer, _net: object, optimizer: Optimizer) -> None:
        """Record the norm of the optimizer's gradients before clipping, and its hyperparameters. All ranks add distributed parts."""
        if not (trainer.is_global_zero or self.has_parts):
            return
        stepped = self.parameters
        # gradients of another optimizer's last step remain, and a resumed run does not have them
        if len(trainer.optimizers) > 1:
            own = {id(each) for group in optimizer.param_groups for each in group["params"]}
            stepped = [parameter for parameter in self.parameters if id(parameter) in own]
        given = [_filled(parameter.grad) for parameter in stepped if parameter.grad is not None]
        norm = norm_over_ranks(given) if self.has_parts and given else norm_of(given)
        every = [_dense(each) for each in self.parameters] if self.full else []
        gradients = [self.integers.prints(every)] if self.full else []
        if not trainer.is_global_zero:
            return
        self.step.norm.append(self.integers.number(norm))
        self.step.schedules[id(optimizer)] = [value for _, value in scheduled(optimizer)]
        self.step.gradients = gradients

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, _batch: object, batch_idx: int
    ) -> None:
        """Record the loss; after an optimizer step also the weights, which completes the line."""
        data, self.arriving = [wait() for wait in self.arriving], []
        has_stepped = trainer.global_step != self.before
        weights: list[Integers] = []
        if has_stepped and (trainer.is_global_zero or self.has_parts):
            weights = [self.integers.weights([owner[name] for _, owner, name in self.weights])]
        if not trainer.is_global_zero:
            self.before = trainer.global_step
            return
        self.step.data += data
        if outputs and outputs.get("loss") is not None:
            self.step.losses.append(self.integers.number(outputs["loss"]))
        if not has_stepped:
            return
        self.before = trainer.global_step
        step, self.step = self.step, StepParts()
        step.weights = weights
        step.values |= {"step": self.before, "epoch": trainer.current_epoch, "batch": batch_idx + 1}
        step.values["schedule"] = [
            value
            for each in trainer.optimizers
            for value in step.schedules.get(id(each)) or [value for _, value in scheduled(each)]
        ]
        shared: int | None = getattr(trainer.strategy, "random_state", None)
        state = state_of_generators(pl_module.device) if shared is None else shared
        step.values["random"] = f"{state:016x}"
        self.pending.append(step)
        if len(self.pending) >= self.integers.most_steps:
            self.flush()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the results of a validation."""
        self._evaluated("val", trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the results of the test."""
        self._evaluated("test", trainer, pl_module)

    def on_train_end(self, *_: object) -> None:
        """Write the remaining lines."""
        self.flush()

    def flush(self) -> None:
        """Write the lines of all completed steps."""
        if self.pending:
            steps, self.pending = self.pending, []
            fetched = iter(self.integers.fetch([part for step in steps for part in step.parts()]))
            self.file.append(b"".join(step.line(fetched).to_line() for step in steps))

    def _header(self, trainer: L.Trainer, net: nn.Module) -> TraceHeader:
        return TraceHeader(
            algorithm=cast("Any", self.integers.algorithm),
            layout=layout_of(
                (name, str(owner[key].dtype).removeprefix("torch."), owner[key].shape)
                for name, owner, key in self.weights
            ),
            tensors=[name for name, _, _ in self.weights],
            gradients=[name for name, _ in net.named_parameters()] if self.full else None,
            frozen=frozen_in(net) or None,
            schedule=_schedule_names(trainer.optimizers),
        )

    def _evaluated(self, split: Literal["val", "test"], trainer: L.Trainer, net: L.LightningModule) -> None:
        values = dict(sorted(evaluated(net, split).items()))
        self.flush()
        if trainer.is_global_zero and values:
            self.file.append(Evaluation(evaluation=split, step=trainer.global_step, values=values).to_line())


@configured
def tracers(folder: Path, *, trace: str) -> list[Tracer]:
    """Return the tracer of a training run, which writes into `folder`; empty if the setting `trace` is off."""
    return [] if trace == "off" else [Tracer(folder, full=trace == "full")]


def _schedule_names(optimizers: Sequence[Optimizer]) -> list[str]:
    """Return the names of the optimizers' hyperparameters; the numbers of a second optimizer's groups follow the first optimizer's."""
    names, first = [], 0
    for optimizer in optimizers:
        names += [name for name, _ in scheduled(optimizer, first=first)]
        first += len(optimizer.param_groups)
    return names


def scheduled(optimizer: Optimizer, *, first: int = 0) -> Iterator[tuple[str, float]]:
    """Yield an optimizer's hyperparameters by group, numbered from `first`: `0.lr`, `0.betas.1`, `0.weight_decay`."""
    for place, group in enumerate(optimizer.param_groups, start=first):
        for name, value in group.items():
            several = value if isinstance(value, tuple) else (value,)
            for number, one in enumerate(several):
                if isinstance(one, int | float) and not isinstance(one, bool):
                    yield f"{place}.{name}.{number}" if isinstance(value, tuple) else f"{place}.{name}", float(one)


def frozen_in(net: nn.Module) -> list[str]:
    """Return the names of the parameters that are not trained."""
    return [name for name, each in net.named_parameters() if not each.requires_grad]


def norm_of(gradients: list[torch.Tensor]) -> torch.Tensor:
    """Return the norm of all gradients together in one call: bit-identical to torch's `get_total_norm`, but faster."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))) if gradients else _ZERO  # noqa: SLF001 - it has no public name


def _dense(parameter: torch.Tensor) -> torch.Tensor:
    """Return a parameter's gradient as a dense tensor, zeros if there is none."""
    if parameter.grad is None:
        return torch.zeros_like(parameter)
    return parameter.grad if is_part(parameter.grad) else parameter.grad.to_dense()


def _filled(gradient: torch.Tensor) -> torch.Tensor:
    """Return the stored values of a gradient: a sparse tensor has no norm."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _packed(values: list[int]) -> bytes:
    return b"".join(value.to_bytes(8, "big") for value in values)


def write_tensors(
    folder: Path, checkpoint: Mapping[str, Any], names: Sequence[Sequence[str]], *, frozen: Sequence[str] = ()
) -> str:
    """Write a checkpoint's `weights.safetensors` and `tensors.json`; return the digest of the weights' table.

    `names` are the names of each optimizer's parameters.
    """
    saved: Mapping[str, Tensor] = checkpoint["state_dict"]
    weights = {name: value.detach().cpu().contiguous() for name, value in saved.items()}
    table = {name: described(value) for name, value in weights.items()}
    moments: dict[str, Any] = {}
    for state, each in zip(checkpoint["optimizer_states"], names, strict=True):
        for name, value in optimizer_tensors(state, each).items():
            moments[f"{name}@{len(moments)}" if name in moments else name] = described(value)
    document = {
        "format": FORMAT,
        "step": checkpoint["global_step"],
        "weights": table,
        "optimizer": moments,
        **({"frozen": [*frozen]} if frozen else {}),
    }
    with replacing(folder / "weights.safetensors") as file:
        write_tensor_file(file, in_library_order(weights))
    write_whole(folder / "tensors.json", canonical(document) + b"\n")
    return digest_of_document(table)


def described(tensor: Tensor) -> dict[str, Any]:
    """Return dtype, shape, and the sha256 of a tensor's elements in row-major, little-endian order.

    >>> described(torch.zeros(2, 3))["shape"]
    [2, 3]
    """
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy().data if flat.numel() else b""
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "sha256": f"sha256:{hashlib.sha256(data).hexdigest()}",
    }


def parameter_names(net: nn.Module, optimizers: Sequence[Optimizer]) -> list[list[str]]:
    """Return the names of each optimizer's parameters, in the order of its state."""
    names = {id(value): name for name, value in net.named_parameters()}
    return [
        [
            names.get(id(value), f"parameter {number}")
            for number, value in enumerate(v for g in each.param_groups for v in g["params"])
        ]
        for each in optimizers
    ]


def optimizer_tensors(state: Mapping[str, Any], names: Sequence[str]) -> dict[str, Tensor]:
    """Return an optimizer's tensors by parameter and quantity, such as `layers.0.weight/exp_avg`."""
    return {
        f"{names[index]}/{quantity}": value
        for index, quantities in state["state"].items()
        for quantity, value in quantities.items()
        if isinstance(value, torch.Tensor)
    }
