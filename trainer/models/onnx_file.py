"""The program of a package as an ONNX graph, which other runtimes read: exported, cleaned, and tested in onnxruntime.

The graph has no text about the machine or the source that it was made from, so equal programs have equal bytes on every machine.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import PackageError
from trainer.models.evaluation import TOLERANCE
from trainer.models.export import ParityCheck
from trainer.models.package import OnnxParity
from trainer.training.checks.exporting import exporting
from trainer.training.failures import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.models.export import Inputs, Outputs
    from trainer.models.package import OutputComparison, TensorSpec
    from trainer.training.tasks.predictions import PredictionForm

MOST: Final = (1 << 31) - (1 << 20)
"""The maximum number of bytes of a graph with its weights: an ONNX file, a protobuf message, has less than 2 GiB."""
_TEXTS: Final = {"doc_string", "metadata_props"}
"""Fields in which an exporter writes lines of source and stack traces."""
_ADVICE: Final = "model.pt2 holds the same net: --onnx off makes the package without a graph"


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxGraph:
    """A graph as the bytes of a file, and its comparison with the run's net."""

    data: bytes
    parity: OnnxParity


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenBatch:
    """The golden samples, the test data of a graph."""

    specs: Sequence[TensorSpec]
    """The inputs in the program's order."""
    inputs: Inputs
    outputs: Outputs
    """The outputs of the run's net."""
    form: PredictionForm

    def other_count(self) -> tuple[str, Inputs]:
        """Return another number of samples, with its name for messages."""
        if len(self.inputs[0]) > 1:
            return "one sample", tuple(each[:1] for each in self.inputs)
        return "two samples", tuple(torch.cat([each, each]) for each in self.inputs)

    def other_lengths(self) -> Iterator[tuple[str, Inputs]]:
        """Yield samples with other lengths of the axes whose length varies, with their name for messages, if there are such axes."""
        axes = [[axis for axis, length in enumerate(each.shape, start=1) if length == "any"] for each in self.specs]
        lengths = [value.shape[axis] for value, own in zip(self.inputs, axes, strict=True) for axis in own]
        if lengths and min(lengths) > 1:
            yield "shorter samples", self._changed(axes, lambda each, axis: each.narrow(axis, 0, each.shape[axis] - 1))
        if lengths:
            yield "longer samples", self._changed(axes, lambda each, axis: torch.cat([each, each], axis))

    def _changed(self, axes: Sequence[Sequence[int]], change: Callable[[Any, int], Any]) -> Inputs:
        changed = []
        for each, own in zip(self.inputs, axes, strict=True):
            value = each
            for axis in own:
                value = change(value, axis)
            changed.append(value.contiguous())
        return tuple(changed)


def export_onnx(program: torch.export.ExportedProgram, golden: GoldenBatch) -> OnnxGraph:
    """Export a program as a graph whose outputs for the golden samples match those of the run's net.

    Raise `PackageError` with the reason if the program has no such graph.
    """
    _require_small(program)
    with exporting(), _quiet():
        try:
            net = program.module()
            names = [each.name for each in golden.specs]
            data, opset = _graph(program, names, [*net(*_copies(golden.inputs))])
            session = _OnnxSession(data)
            session.require_names(names, [*golden.outputs])
            compared = _compared(golden.form, session, golden.inputs, golden.outputs)
            _require_close(compared, "the golden samples")
            _test_shapes(net, session, golden)
        except PackageError:
            raise
        except ImportError as fault:
            message = (
                f"no ONNX graph: {(fault.name or str(fault)).partition('.')[0]} is not installed in this environment"
            )
            raise PackageError(message, hint="docs/how-to/environments.md; or use --onnx off") from fault
        except Exception as fault:
            cause = _cause(fault)
            message = f"no ONNX graph: {type(cause).__name__}{first_line(cause)}"
            raise PackageError(message, hint=_ADVICE) from fault
    parity = OnnxParity(
        graph=digest_of_bytes(data),
        golden=compared,
        tolerance=TOLERANCE,
        opset=opset,
        onnxruntime=session.version,
    )
    return OnnxGraph(data=data, parity=parity)


def _require_small(program: torch.export.ExportedProgram) -> None:
    tensors = [each for each in (*program.state_dict.values(), *program.constants.values()) if torch.is_tensor(each)]
    size = sum(each.numel() * each.element_size() for each in tensors)
    if size > MOST:
        message = f"no ONNX graph: the weights have {size / 1e9:.1f} GB; an ONNX file has at most {MOST / 1e9:.1f} GB"
        raise PackageError(message, hint=_ADVICE)


def _require_stateless(decomposed: torch.export.ExportedProgram | None) -> None:
    """Raise `PackageError` if a program without in-place operations changes a buffer: a graph keeps no state between calls."""
    if decomposed and (changed := [*decomposed.graph_signature.buffers_to_mutate.values()]):
        message = (
            f"no ONNX graph: forward changes the buffer {changed[0].removeprefix('net.')}, but a graph keeps no state"
        )
        raise PackageError(message, hint=_ADVICE)


def _graph(program: torch.export.ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[bytes, int]:
    """Return the graph with the names of `inputs` and `outputs`, without strings about its origin, and the version of its operators."""
    from onnx_ir.passes.common import NameFixPass

    made = torch.onnx.export(program, input_names=inputs, output_names=outputs, dynamo=True, verbose=False)
    if made is None:
        raise PackageError("no ONNX graph: torch.onnx.export returned no program", hint=_ADVICE)
    _require_stateless(made.exported_program)
    NameFixPass()(made.model)  # a value inside the graph may have the name of an input
    message: Any = made.model_proto
    _clean(message)
    opset = next(each.version for each in message.opset_import if not each.domain)
    return message.SerializeToString(deterministic=True), opset


def _clean(message: Any) -> None:
    """Clear the fields in `_TEXTS` of a message and of all messages in it."""
    for field, value in message.ListFields():
        if field.name in _TEXTS:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for each in [value] if hasattr(value, "ListFields") else value:
                _clean(each)


def _test_shapes(net: Callable[..., Outputs], session: _OnnxSession, golden: GoldenBatch) -> None:
    """Raise `PackageError` if the graph's outputs differ from the program's for another number of samples, or for other lengths."""
    name, inputs = golden.other_count()
    if not (expected := _taken(net, inputs)):
        raise PackageError(f"no ONNX graph: the exported net does not accept {name}", hint=_ADVICE)
    _require_close(_compared(golden.form, session, inputs, expected), name)
    lengths, tested = [*golden.other_lengths()], 0
    for name, inputs in lengths:
        if expected := _taken(net, inputs):
            _require_close(_compared(golden.form, session, inputs, expected), name)
            tested += 1
    if lengths and not tested:
        message = "no ONNX graph: the net takes neither shorter nor longer samples than the golden ones, so no other length is tested"
        raise PackageError(message, hint=_ADVICE)


def _taken(net: Callable[..., Outputs], inputs: Inputs) -> Outputs | None:
    """Return the outputs of a net; `None` if it does not accept the shapes of `inputs`."""
    try:
        return net(*_copies(inputs))
    except Exception:  # noqa: BLE001 - a program raises exceptions of many kinds
        return None


def _compared(form: PredictionForm, session: _OnnxSession, inputs: Inputs, expected: Outputs) -> OutputComparison:
    """Compare the graph's outputs with the expected outputs. Raise `PackageError` if their types differ."""
    found = session(*inputs)
    for name, each in expected.items():
        if found[name].dtype != each.dtype:
            message = f"no ONNX graph: its output {name} is {found[name].dtype}; expected {each.dtype}"
            raise PackageError(message, hint=_ADVICE)
    check = ParityCheck(form=form, program=session)
    check.compare(found, expected, samples=len(inputs[0]))
    return check.result()


def _require_close(compared: OutputComparison, name: str) -> None:
    if compared.largest > TOLERANCE:
        message = (
            f"no ONNX graph: for {name}, its output {compared.output} of sample {compared.sample} differs by {compared.largest:.3g} "
            f"of the largest value; the tolerance is {TOLERANCE:g}"
        )
        raise PackageError(message, hint=_ADVICE)


class _OnnxSession:
    """A graph in onnxruntime, on the CPU."""

    def __init__(self, data: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # only errors, which it also raises
        options.intra_op_num_threads = 1  # the result does not depend on the number of cores
        self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self.version: str = onnxruntime.__version__
        self.inputs = [each.name for each in self._session.get_inputs()]
        self.outputs = [each.name for each in self._session.get_outputs()]

    def __call__(self, *given: torch.Tensor) -> Outputs:
        values = {name: each.numpy() for name, each in zip(self.inputs, given, strict=True)}
        found = self._session.run(self.outputs, values)
        return {name: torch.from_numpy(each) for name, each in zip(self.outputs, found, strict=True)}

    def require_names(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Raise `PackageError` if the graph has other inputs or outputs."""
        for kind, found, expected in (("inputs", self.inputs, inputs), ("outputs", self.outputs, outputs)):
            if sorted(found) != sorted(expected):
                message = f"no ONNX graph: it has the {kind} {', '.join(found)}; expected {', '.join(expected)}"
                raise PackageError(message, hint=_ADVICE)


def _copies(inputs: Inputs) -> Inputs:
    return tuple(each.clone() for each in inputs)


def _cause(fault: BaseException) -> BaseException:
    """Return the first exception of a chain: the exporter's own message is the same for all causes."""
    while fault.__cause__ is not None:
        fault = fault.__cause__
    return fault


@contextmanager
def _quiet() -> Iterator[None]:
    """Disable the exporter's log in the block. Its errors are raised as exceptions."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
