"""Export a run's net as a program, and watch its calls: what a test passes to `forward`, and how a program's outputs differ.

A test calls `forward` of the net. `watched` replaces `forward` in a block, which works for every task and for a plain LightningModule,
however it splits its batches.
"""

from __future__ import annotations

import inspect
import warnings
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from trainer.base.errors import PackageError
from trainer.models.package import OutputComparison, TensorSpec
from trainer.training.checks.exporting import exporting, served
from trainer.training.failures import first_line
from trainer.training.tasks.predictions import OUTPUT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    import lightning as L

    from trainer.data.reader import Length
    from trainer.training.tasks.predictions import PredictionForm

Inputs = tuple[Tensor, ...]
Outputs = dict[str, Tensor]
_ADVICE: Final = "reprise check EXPERIMENT shows which part of `forward` cannot be exported"


class NamedOutputNet(nn.Module):
    """A net that returns the named outputs of a prediction form."""

    def __init__(self, net: nn.Module, form: PredictionForm) -> None:
        super().__init__()
        self.net, self.form = net, form

    def forward(self, *given: Tensor) -> Outputs:
        """Return the named outputs for the inputs in the order of the net's parameters."""
        return self.form.outputs(self.net(*given))


@contextmanager
def watched(net: L.LightningModule, call: Callable[[Callable[..., Any], Inputs], Any]) -> Iterator[None]:
    """Replace the net's `forward` in the block by `call(forward, inputs)`. Raise `PackageError` for inputs that are not tensors."""
    forward = net.forward
    parameters = inspect.signature(forward)

    def replaced(*given: Any, **named: Any) -> Any:
        inputs = parameters.bind(*given, **named).args
        if not inputs or not all(isinstance(each, Tensor) for each in inputs):
            kinds = ", ".join(type(each).__name__ for each in inputs) or "nothing"
            message = f"{type(net).__name__}.forward gets {kinds}; a package has tensors as inputs"
            raise PackageError(message, hint="pass tensors [batch, ...] to forward, each as its own argument")
        return call(forward, inputs)

    net.forward = replaced  # type: ignore[method-assign]
    try:
        yield
    finally:
        del net.forward  # restores the method of the class


@dataclass(slots=True)
class GoldenSamples:
    """The first samples of a test, with the outputs of the net, and the shapes of all inputs and outputs of the test."""

    form: PredictionForm
    most: int
    inputs: list[Inputs] = field(default_factory=list)
    outputs: list[Outputs] = field(default_factory=list)
    shapes: defaultdict[str | int, set[torch.Size]] = field(default_factory=lambda: defaultdict(set))
    """The shapes of each input, by number, and of each output, by name, without the axis of samples."""

    @property
    def count(self) -> int:
        """The number of samples."""
        return sum(len(each[0]) for each in self.inputs)

    def call(self, forward: Callable[..., Any], inputs: Inputs) -> Any:
        """Call the net and keep its samples, up to `most`. Samples of another shape than the first are not kept."""
        copies = tuple(each.clone() for each in inputs)
        predicted = forward(*inputs)
        outputs, room = self.form.outputs(predicted), self.most - self.count
        for number, each in enumerate(copies):
            self.shapes[number].add(each.shape[1:])
        for name, each in outputs.items():
            self.shapes[name].add(each.shape[1:])
        if room > 0 and (not self.inputs or [each.shape[1:] for each in copies] == self._first_shapes()):
            self.inputs.append(tuple(each[:room] for each in copies))
            self.outputs.append({name: each[:room].clone() for name, each in outputs.items()})
        return predicted

    def _first_shapes(self) -> list[torch.Size]:
        return [each.shape[1:] for each in self.inputs[0]]

    def variable(self, name: str | int) -> set[int]:
        """Return the axes of an input or output whose length varies, counted with the axis of samples.

        Raise `PackageError` if the number of axes varies.
        """
        shapes = self.shapes[name]
        if len({len(each) for each in shapes}) > 1:
            message = f"{name!r} of forward has different numbers of axes: {sorted(map(list, shapes))[:2]}"
            raise PackageError(message, hint="use tensors with the same axes in every batch")
        return {axis for axis, lengths in enumerate(zip(*shapes, strict=True), start=1) if len(set(lengths)) > 1}

    def joined(self) -> tuple[Inputs, Outputs]:
        """Return the samples as one batch."""
        inputs = tuple(torch.cat(each).contiguous() for each in zip(*self.inputs, strict=True))
        return inputs, {name: torch.cat([each[name] for each in self.outputs]).contiguous() for name in self.outputs[0]}


@dataclass(slots=True)
class ParityCheck:
    """Compares the outputs of a program with those of the net in each call. The test measures the program's outputs."""

    form: PredictionForm
    program: Callable[..., Outputs]
    samples: int = 0
    identical: bool = True
    largest: float = 0.0
    output: str | None = None
    sample: int | None = None

    def call(self, forward: Callable[..., Any], inputs: Inputs) -> Any:
        """Call the program and the net. Return the net's result with the program's values. Raise `PackageError` if the program fails."""
        try:
            found = self.program(*(each.clone() for each in inputs))
        except Exception as fault:
            shapes = ", ".join(str(list(each.shape)) for each in inputs)
            message = f"the exported net does not accept {shapes}: {type(fault).__name__}{first_line(fault)}"
            raise PackageError(message, hint=_ADVICE) from fault
        predicted = forward(*inputs)
        self.compare(found, self.form.outputs(predicted), samples=len(inputs[0]))
        return _with_values(predicted, found)

    def compare(self, found: Outputs, expected: Outputs, *, samples: int) -> None:
        """Compare the outputs for `samples` samples."""
        for name, each in expected.items():
            self._compare(name, each, found[name])
        self.samples += samples

    def result(self) -> OutputComparison:
        """Return the comparison of all calls."""
        return OutputComparison(
            samples=self.samples,
            identical=self.identical,
            largest=self.largest,
            output=self.output,
            sample=self.sample,
        )

    def _compare(self, name: str, expected: Tensor, found: Tensor) -> None:
        if expected.shape == found.shape and expected.dtype == found.dtype and same_bits(expected, found):
            return
        self.identical = False
        relative, sample = difference(expected, found)
        if self.output is None or relative > self.largest:
            self.largest, self.output, self.sample = relative, name, self.samples + sample


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors of equal shape and type have equal values; NaN equals NaN."""
    return torch.equal(one, other) or (
        one.is_floating_point() and bool(torch.allclose(one, other, 0, 0, equal_nan=True))
    )


def difference(expected: Tensor, found: Tensor) -> tuple[float, int]:
    """Return the largest difference, relative to the largest absolute value that was expected, and the number of its sample.

    An infinite difference is returned as the largest float, because JSON does not support infinity.
    """
    if expected.shape != found.shape:
        return torch.finfo(torch.float64).max, 0
    one, other = expected.double(), found.double()
    scale = float(one.abs().nan_to_num().max()) if one.numel() else 0.0
    gaps = (one - other).abs().flatten(1) if one.ndim > 1 else (one - other).abs()[:, None]
    same = torch.isnan(one) & torch.isnan(other)
    gaps = torch.where(same.reshape(gaps.shape), 0.0, gaps).nan_to_num(nan=torch.inf)
    worst = gaps.amax(1)
    sample = int(worst.argmax())
    return min(float(worst[sample]) / (scale or 1.0), torch.finfo(torch.float64).max), sample


def _with_values(predicted: Any, found: Outputs) -> Any:
    """Return the program's outputs in the form that the net returns."""
    if isinstance(predicted, Tensor):
        return found[OUTPUT]
    if isinstance(predicted, tuple | list):
        return type(predicted)(found[f"{OUTPUT}_{number}"] for number in range(len(predicted)))
    return {name: found[str(name)] for name in predicted}


def export_net(
    net: L.LightningModule, inputs: Inputs, form: PredictionForm, *, variable: Sequence[Collection[int]]
) -> torch.export.ExportedProgram:
    """Export a net with named outputs, for any number of samples; `variable` has the other axes of each input whose length varies.

    Raise `PackageError` with the first line of torch's reason.
    """
    axes = tuple(dict.fromkeys((0, *each), torch.export.Dim.AUTO) for each in variable)
    with exporting(), served(net):
        given = tuple(each.clone() for each in inputs)
        try:
            program = torch.export.export(NamedOutputNet(net, form), given, dynamic_shapes={"given": axes})
        except Exception as fault:
            message = f"torch.export failed: {type(fault).__name__}{first_line(fault)}"
            raise PackageError(message, hint=_ADVICE) from fault
    for graph in program.graph_module.modules():
        for node in graph.graph.nodes if isinstance(graph, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # it has paths of this machine
    return program


def varying_axes(program: torch.export.ExportedProgram, names: Sequence[str]) -> dict[str, set[int]]:
    """Return the axes of each output whose length depends on the inputs, except axis 0, the axis of samples.

    `names` are the outputs in the program's order.
    """
    values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    shapes = {name: values[each].shape for name, each in zip(names, program.graph_signature.user_outputs, strict=True)}
    return {
        name: {axis for axis, length in enumerate(shape) if axis and not isinstance(length, int)}
        for name, shape in shapes.items()
    }


def require_any_count(program: Callable[..., Outputs], inputs: Inputs) -> None:
    """Raise `PackageError` if a program does not accept a single sample."""
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program(*(each[:1].clone() for each in inputs))
    except Exception as fault:
        message = f"the exported net takes only {len(inputs[0])} samples: {type(fault).__name__}{first_line(fault)}"
        raise PackageError(message, hint="do not use the number of samples in forward, such as view(32, -1)") from fault


def spec_of(name: str, value: Tensor, *, variable: Collection[int] = (), has_range: bool = False) -> TensorSpec:
    """Return the type of a batch's tensor, without the axis of samples. Raise `PackageError` for a type that JSON cannot hold.

    `variable` has the axes whose length varies; `has_range` adds the range of the values.
    """
    shape: list[Length] = [
        "any" if axis in variable else length for axis, length in enumerate(value.shape[1:], start=1)
    ]
    kind = str(value.dtype).removeprefix("torch.")
    if kind in {"bfloat16", "complex64", "complex128"}:
        message = f"{name} is {kind}; expected a type that JSON and NumPy support"
        raise PackageError(message, hint="convert it in forward: `.float()`")
    return TensorSpec.model_validate(
        {"name": name, "dtype": kind, "shape": shape, "range": range_of(value) if has_range else None}
    )


def range_of(value: Tensor) -> tuple[float, float] | None:
    """Return the smallest and the largest value of a tensor; `None` if the tensor is empty, or a value is not finite."""
    if not value.numel() or not bool(value.isfinite().all()):
        return None
    return float(value.min()), float(value.max())
