"""Programs as ONNX graphs: they have the nets' outputs and no text about the machine. A graph with other outputs is an error."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from tests.models.serving.small_packages import small
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import PackageError
from trainer.models.evaluation import TOLERANCE
from trainer.models.export import NamedOutputNet, spec_of
from trainer.models.onnx_file import GoldenBatch, OnnxGraph, export_onnx
from trainer.training.tasks.predictions import PredictionForm

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
KINDS = ("pictures", "table", "tensors")


def exported(
    net: nn.Module, inputs: dict[str, Tensor], *, variable: tuple[int, ...] = (), dynamic: bool = True
) -> tuple[torch.export.ExportedProgram, GoldenBatch]:
    """Return a net's program, and the net's outputs for the inputs; `variable` are the axes of any length."""
    form, axes = PredictionForm(), dict.fromkeys((0, *variable), torch.export.Dim.AUTO)
    named = NamedOutputNet(net.eval(), form)
    shapes = {"given": tuple(dict(axes) for _ in inputs)} if dynamic else None
    with torch.no_grad():
        program = torch.export.export(named, tuple(inputs.values()), dynamic_shapes=shapes)
        outputs = named(*inputs.values())
    specs = [spec_of(name, each, variable=variable) for name, each in inputs.items()]
    return program, GoldenBatch(specs=specs, inputs=tuple(inputs.values()), outputs=outputs, form=form)


def graph_of(net: nn.Module, inputs: dict[str, Tensor], **words: Any) -> OnnxGraph:
    return export_onnx(*exported(net, inputs, **words))


@cache
def graph_of_kind(kind: str) -> OnnxGraph:
    made = small(kind)
    return graph_of(made.net, made.inputs, variable=made.variable)


class Function(nn.Module):
    """A net that computes a function of `[batch, 3]`."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function, self.linear = function, nn.Linear(3, 3)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Any:
        return self.function(self, self.linear(x))


def counting(net: Any, x: Tensor) -> Any:
    net.calls.add_(1)
    return x + net.calls


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_predicts_as_the_net_for_any_number_and_length(kind: str) -> None:
    made, found = small(kind), graph_of_kind(kind)
    session = onnxruntime.InferenceSession(found.data, providers=["CPUExecutionProvider"])
    inputs = {name: torch.cat([each, each, each]) for name, each in made.inputs.items()}
    if made.variable:
        inputs = {name: torch.cat([each, each], 1) for name, each in inputs.items()}
    (output,) = session.run(["output"], {name: each.numpy() for name, each in inputs.items()})
    assert torch.allclose(torch.from_numpy(output), made.net(*inputs.values()), atol=1e-5)
    assert found.parity.golden.largest <= TOLERANCE
    assert (found.parity.golden.samples, found.parity.graph) == (len(output) // 3, digest_of_bytes(found.data))


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_says_nothing_of_its_machine_and_source(kind: str) -> None:
    data = graph_of_kind(kind).data
    texts = (
        b".py",
        b"File ",
        b"line ",
        b"Traceback",
        b"metadata",
        str(Path(__file__).parents[2]).encode(),
        b"site-packages",
    )
    assert not [each for each in texts if each in data]


def test_a_graph_is_made_again_bit_for_bit() -> None:
    assert graph_of_kind("table").data == graph_of_kind.__wrapped__("table").data


def test_an_input_may_have_the_name_of_a_value_inside_of_the_graph() -> None:
    found = graph_of(Function(lambda _, x: x.relu()), {"linear": torch.rand(4, 3)})
    onnx.checker.check_model(onnx.load_from_string(found.data), full_check=True)


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda _, x: torch.lgamma(x), "lgamma"),
        (counting, "forward changes the buffer calls, but"),
    ],
    ids=["no operator", "a buffer that changes"],
)
def test_a_net_without_a_graph_is_named_with_the_reason(function: Any, match: str) -> None:
    with pytest.raises(PackageError, match=f"^no ONNX graph: .*{match}") as raised:
        graph_of(Function(function), {"x": torch.rand(4, 3)})
    assert "\n" not in raised.value.message


def test_a_value_may_be_an_output_twice_and_an_input_may_be_an_output() -> None:
    class Passing(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"given": x, "one": x + 1, "other": x + 1, "sum": x.sum(1)}

    assert graph_of(Passing(), {"x": torch.rand(4, 3)}).parity.golden.largest == 0


def test_a_graph_with_other_outputs_is_rejected_with_the_output_and_the_sample() -> None:
    program, golden = exported(Function(lambda _, x: x), {"x": torch.rand(4, 3)})
    golden.outputs["output"][2, 1] += 0.5
    with pytest.raises(PackageError, match=r"output output of sample 2 differs by 0\.\d+ of the largest value"):
        export_onnx(program, golden)


def test_a_graph_for_one_number_of_samples_is_rejected() -> None:
    with pytest.raises(PackageError, match="the exported net does not accept one sample"):
        graph_of(Function(lambda _, x: x), {"x": torch.rand(4, 3)}, dynamic=False)


def test_a_graph_whose_other_lengths_nothing_tests_is_rejected() -> None:
    program, golden = exported(Function(lambda _, x: x), {"x": torch.rand(4, 3)})
    specs = [spec_of("x", torch.rand(4, 3), variable={1})]
    with pytest.raises(PackageError, match="no other length is tested"):
        export_onnx(program, replace(golden, specs=specs))


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PackageError, match="onnxruntime is not installed in this environment"):
        graph_of(Function(lambda _, x: x), {"x": torch.rand(4, 3)})


def test_weights_that_no_file_of_onnx_holds_are_rejected_before_the_export() -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(1 << 20, 1).expand(1 << 20, 600), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.weight[0, 0]

    with pytest.raises(PackageError, match=r"the weights have 2\.5 GB; an ONNX file has at most 2\.1 GB"):
        graph_of(Large(), {"x": torch.rand(4, 3)})
