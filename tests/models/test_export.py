"""Watching the calls of a net: golden samples, varying lengths, and programs with other outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch")

import lightning as L
import torch
from torch import Tensor, nn

from trainer.base.errors import PackageError
from trainer.models.evaluation import TOLERANCE
from trainer.models.export import (
    GoldenSamples,
    ParityCheck,
    difference,
    export_net,
    require_any_count,
    spec_of,
    varying_axes,
    watched,
)
from trainer.training.tasks.predictions import PredictionForm

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
CLASSES = PredictionForm(kind="class", names=("cat", "dog"))


class Net(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        return self.layer(x.mean(1))


def call_with(net: Net, *shapes: tuple[int, ...], call: Callable[..., Any]) -> None:
    """Call the net for inputs of these shapes, as a test does."""
    with torch.no_grad(), watched(net, call):
        for shape in shapes:
            net(torch.rand(shape))


def test_golden_samples_are_the_first_of_one_shape_and_lengths_that_vary_are_known() -> None:
    golden = GoldenSamples(form=CLASSES, most=5)
    call_with(Net(), (4, 6, 3), (4, 7, 3), (4, 6, 3), call=golden.call)
    inputs, outputs = golden.joined()
    assert [tuple(each.shape) for each in (*inputs, *outputs.values())] == [(5, 6, 3), (5, 2), (5, 2)]
    assert (golden.variable(0), golden.variable("scores")) == ({1}, set())


def test_a_net_is_its_own_again_after_it_was_watched() -> None:
    net = Net()
    call_with(net, (1, 2, 3), call=lambda forward, inputs: forward(*inputs) * 0)
    assert net(torch.ones(1, 2, 3)).abs().sum() > 0


def test_a_program_takes_any_number_of_samples_of_any_length() -> None:
    net = Net().eval()
    program = export_net(net, (torch.rand(4, 6, 3),), CLASSES, variable=[{1}]).module()
    check = ParityCheck(form=CLASSES, program=program)
    call_with(net, (1, 6, 3), (9, 2, 3), (64, 30, 3), call=check.call)
    assert check.result().identical
    assert check.result().samples == 74


def test_an_output_whose_length_is_that_of_the_input_is_known_although_all_samples_had_one_length() -> None:
    class Steps(Net):
        def forward(self, x: Any) -> Any:
            return self.layer(x), x.mean(1)

    program = export_net(Steps().eval(), (torch.rand(4, 6, 3),), PredictionForm(), variable=[{1}])
    assert varying_axes(program, ["output_0", "output_1"]) == {"output_0": {1}, "output_1": set()}


def test_the_output_and_the_sample_that_differ_most_are_named() -> None:
    net, calls = Net().eval(), iter(range(9))

    def program(x: Tensor) -> dict[str, Tensor]:
        outputs = CLASSES.outputs(net.layer(x.mean(1)))
        if next(calls) == 1:
            outputs["scores"] = outputs["scores"].clone()
            outputs["scores"][2, 0] += 0.5
        return outputs

    check = ParityCheck(form=CLASSES, program=program)
    call_with(net, (4, 2, 3), (4, 2, 3), call=check.call)
    found = check.result()
    assert (found.identical, found.output, found.sample) == (False, "scores", 6)
    assert found.largest > TOLERANCE


@pytest.mark.parametrize(
    ("expected", "found", "relative"),
    [
        ([[1.0, 2.0]], [[1.0, 2.2]], 0.1),
        ([[float("nan"), 4.0]], [[float("nan"), 4.0]], 0.0),
        ([[0.0]], [[0.0]], 0.0),
    ],
)
def test_differences_are_relative_to_the_largest_value(
    expected: list[list[float]], found: list[list[float]], relative: float
) -> None:
    assert difference(torch.tensor(expected), torch.tensor(found))[0] == pytest.approx(relative, abs=1e-6)


@pytest.mark.parametrize("found", [[[float("nan")]], [[float("inf")]], [[1.0, 1.0]]])
def test_nan_infinity_and_other_shapes_are_large_differences(found: list[list[float]]) -> None:
    assert difference(torch.tensor([[1.0]]), torch.tensor(found))[0] > 1e300


def test_a_net_for_one_number_of_samples_is_rejected() -> None:
    class Fixed(Net):
        def forward(self, x: Any) -> Any:
            return self.layer(x.mean(1).reshape(4, 3))

    inputs = (torch.rand(4, 6, 3),)
    with pytest.raises(PackageError, match=r"takes only 4 samples"):
        require_any_count(export_net(Fixed().eval(), inputs, CLASSES, variable=[set()]).module(), inputs)


def test_a_net_that_gets_no_tensors_is_rejected() -> None:
    class Named(Net):
        def forward(self, x: Any) -> Any:
            return self.layer(x["x"].mean(1))

    net = Named()
    with pytest.raises(PackageError, match="gets dict"), watched(net, lambda forward, inputs: forward(*inputs)):
        net({"x": torch.rand(1, 2, 3)})


def test_a_type_that_json_does_not_have_is_rejected() -> None:
    with pytest.raises(PackageError, match="bfloat16"):
        spec_of("output", torch.zeros(2, 3, dtype=torch.bfloat16))
    assert str(spec_of("image", torch.zeros(2, 3, 5), variable={2})) == "image float32 [3, any]"
