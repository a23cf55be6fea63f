"""Checks that torch.export can export a net, and that the exported program returns the net's outputs.

A net is called only in the block of `exporting`, which restores the random state. torch.export can leave tensors without values in the
attributes of a net, so callers pass a net that nothing else uses.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from trainer.training.check_result import CheckFailed, CheckNote, NothingToCheck, require
from trainer.training.checks.module_location import TOLERANCE, far
from trainer.training.determinism.seeds import seed_all
from trainer.training.failures import first_line, own_failure
from trainer.training.plain.experiment import NO_FORWARD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import lightning as L

_INPUT: Final = "set `example_input_array` in the module to an input that forward accepts"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleCall:
    """The arguments of a call of a net."""

    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """The number of samples: the size of the first axis of all tensors; 0 if the sizes differ, or there is no tensor."""
        sizes = {len(each) if each.ndim else 0 for each in self._tensors()}
        return sizes.pop() if len(sizes) == 1 else 0

    def first(self, count: int) -> ExampleCall:
        """Return the arguments with the first `count` samples, in new tensors: a net may write into its input."""
        cut = tree_map_only(Tensor, lambda each: each[:count].clone(), (self.positional, dict(self.named)))
        return ExampleCall(positional=cut[0], named=cut[1])

    def copy(self) -> ExampleCall:
        """Return the arguments with new tensors."""
        copied = tree_map_only(Tensor, torch.clone, (self.positional, dict(self.named)))
        return ExampleCall(positional=copied[0], named=copied[1])

    def on(self, device: torch.device) -> ExampleCall:
        """Return the arguments with their tensors on a device."""
        moved = move_data_to_device((self.positional, dict(self.named)), device)
        return ExampleCall(positional=moved[0], named=moved[1])

    def call(self, net: Any) -> Any:
        """Call a net or a program with copies of the arguments; every call starts from the same random state."""
        seed_all(0)
        given = self.copy()
        return net(*given.positional, **given.named)

    def dims(self, dim: Any) -> tuple[Any, dict[str, Any]]:
        """Return the dynamic shapes of the arguments: `dim` for the first dimension of each tensor."""
        placed = tree_map_only(Tensor, lambda each: {0: dim} if each.ndim else {}, (self.positional, dict(self.named)))
        return placed[0], placed[1]

    def _tensors(self) -> list[Tensor]:
        return [each for each in tree_leaves((self.positional, dict(self.named))) if isinstance(each, Tensor)]


@contextmanager
def exporting() -> Iterator[None]:
    """Disable gradients and warnings in the block; restore the random state of torch, NumPy and Python at its end."""
    with isolate_rng(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def served(net: nn.Module) -> Iterator[None]:
    """Set the net to eval mode and disable torch.compile for its modules in the block; restore both, and the buffers, at its end."""
    states = [(each, each.training, each._compiled_call_impl) for each in net.modules()]  # noqa: SLF001 - there is no public name
    owners = [each._buffers for each in net.modules()]  # noqa: SLF001 - torch has no public name for this dict
    buffers = [
        (owner, name, found, found.clone()) for owner in owners for name, found in owner.items() if found is not None
    ]
    net.eval()
    for module in net.modules():
        module._compiled_call_impl = None  # noqa: SLF001
    try:
        yield
    finally:
        for module, training, compiled in states:
            module.training, module._compiled_call_impl = training, compiled  # noqa: SLF001
        for owner, name, found, value in buffers:
            owner[name] = found.copy_(value)


def export(net: Any, example: ExampleCall, *, dim: Any, file: Path, root: Path) -> Any:
    """Export the net with torch.export and return the program; `dim` is the dimension of the samples, None to fix the example's size.

    Raise `CheckFailed` if the export fails, with the first line of torch's message and the line of the experiment in `file`.
    """
    given = example.copy()
    shapes: Any = None
    if dim is not None:
        positional, named = given.dims(dim)
        names = [*inspect.signature(net.forward).parameters][: len(positional)]
        shapes = dict(zip(names, positional, strict=False)) | named if named else positional
    # not the seed of the compared calls: a number drawn by Python becomes a constant of the program, and must differ from theirs
    seed_all(1)
    try:
        return torch.export.export(net, given.positional, dict(given.named), dynamic_shapes=shapes).module()
    except Exception as fault:
        own = own_failure(fault, file=file, root=root)
        place = f" at {own.place}" if own and own.place else ""
        raise CheckFailed(f"torch.export failed{place}: {type(fault).__name__}{first_line(fault)}") from fault


def require_equal_outputs(net: Any, program: Any, example: ExampleCall) -> bool:
    """Return whether a program's outputs are bit-identical to the net's. Raise `CheckFailed` if it raises or they are not close."""
    try:
        found = tree_leaves(example.call(program))
    except Exception as fault:
        raise CheckFailed(f"the exported program raises {type(fault).__name__}{first_line(fault)}") from fault
    expected = tree_leaves(example.call(net))
    require(
        len(found) == len(expected),
        f"the exported program returns {len(found)} values; the net returns {len(expected)}",
    )
    pairs = [(one, other) for one, other in zip(found, expected, strict=True) if isinstance(other, Tensor)]
    for one, other in pairs:
        is_equal = isinstance(one, Tensor) and one.shape == other.shape and not bool(far(one, other).any())
        require(is_equal, "the exported program's output differs from the net's")
    return all(torch.equal(one, other) for one, other in pairs)


class FirstBatch(Callback):
    """A callback that keeps the module and the first batch of a training run."""

    def __init__(self) -> None:
        self.net: L.LightningModule | None = None
        self.batch: Any = None

    def on_train_batch_start(self, _trainer: object, pl_module: L.LightningModule, batch: Any, _index: int) -> None:
        """Keep the first batch."""
        if self.net is None:
            self.net, self.batch = pl_module, tree_map_only(Tensor, torch.clone, batch)


def exportable(seen: FirstBatch, *, file: Path, root: Path) -> str:
    """Export a trained plain module with its example, or with the input in a batch; return the text of the finding.

    Raise `CheckFailed` if the module cannot be exported, `CheckNote` if its forward is missing or does not accept the input, and
    `NothingToCheck` if no step was taken.
    """
    net = seen.net
    if net is None:
        raise NothingToCheck("no step was taken")
    if not is_overridden("forward", net):
        raise CheckNote(NO_FORWARD)
    net.trainer = None  # a net that is served has no trainer
    with exporting(), served(net):
        example, is_own = _example(net, seen.batch)
        example = example.on(next((each.device for each in net.parameters()), torch.device("cpu")))
        try:
            example.call(net)
        except Exception as fault:
            source = "`example_input_array`" if is_own else "the first element of a batch"
            message = f"not tested: forward does not accept {source}: {type(fault).__name__}{first_line(fault)}"
            raise CheckNote(message, hint=_INPUT) from fault
        return _export(net, example, file=file, root=root)


def _export(net: L.LightningModule, example: ExampleCall, *, file: Path, root: Path) -> str:
    count = example.samples
    try:
        program = export(net, example, dim=torch.export.Dim.AUTO if count > 1 else None, file=file, root=root)
    except CheckFailed:
        if count <= 1:
            raise
        program, count = export(net, example, dim=None, file=file, root=root), 1
    is_equal = require_equal_outputs(net, program, example)
    sizes = f"batches of {example.samples}" if example.samples else "inputs of these shapes"
    if count > 1:
        try:
            require_equal_outputs(net, program, example.first(max(1, count // 2)))
            sizes = "batches of any size"
        except CheckFailed:
            pass  # the program supports only the example's batch size
    return f"torch.export can export the trained net, for {sizes}; equal {'bits' if is_equal else f'outputs within {TOLERANCE:g}'}"


def _example(net: L.LightningModule, batch: Any) -> tuple[ExampleCall, bool]:
    """Return example arguments for the module's forward, and whether they are its `example_input_array`."""
    given = getattr(net, "example_input_array", None)
    if given is not None:
        if isinstance(given, Mapping):
            return ExampleCall(named=given), True
        return ExampleCall(positional=given if isinstance(given, tuple) else (given,)), True
    names = [*inspect.signature(net.forward).parameters]
    if isinstance(batch, Mapping) and names and all(name in batch for name in names):
        return ExampleCall(named={name: batch[name] for name in names}), False
    elements = [*batch.values()] if isinstance(batch, Mapping) else batch
    return ExampleCall(positional=(elements[0] if isinstance(elements, list | tuple) else elements,)), False
