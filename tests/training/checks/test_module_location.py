"""The located module: the innermost module with correct inputs and wrong outputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainer.training.checks.module_location import (
    Call,
    describe_module,
    first_difference,
    first_odd,
    grouped,
    record_pass,
    recording,
)

pytestmark = pytest.mark.torch


class Root(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.sqrt()


def location_text(call: Call | None) -> str:
    return describe_module(call.name, call.module) if call else "nowhere"


def make_layers() -> nn.Sequential:
    """Return layers with a square root two levels down."""
    torch.manual_seed(0)  # with these weights, the square root of the second row is NaN
    return nn.Sequential(nn.Identity(), nn.Sequential(nn.Linear(2, 2), Root(), nn.Linear(2, 2)), nn.Softmax(dim=0))


def test_the_first_module_that_returns_nan_is_named() -> None:
    record = record_pass(make_layers(), torch.tensor([[-1.0, 1.0], [100.0, -100.0]]))
    assert location_text(first_odd(record, lambda value: bool(value.isnan().any()))) == "1.1 (Root)"


def test_the_first_module_that_differs_between_two_passes_is_named() -> None:
    layers = make_layers()
    layers[1] = nn.Tanh()
    given = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    other = torch.tensor([[1.0, 2.0], [9.0, -4.0]])

    def apart(one: Tensor, two: Tensor) -> bool:
        return not torch.equal(one[:1], two[:1])

    assert (
        location_text(first_difference(record_pass(layers, given), record_pass(layers, other), apart)) == "2 (Softmax)"
    )
    assert location_text(first_difference(record_pass(layers, given), record_pass(layers, given), apart)) == "nowhere"
    assert (
        location_text(
            first_difference(record_pass(layers, given), record_pass(make_layers(), other), lambda _, __: True)
        )
        == "nowhere"
    )


def test_an_exception_of_a_module_is_noted_with_its_name() -> None:
    layers = nn.Sequential(nn.Identity(), nn.Sequential(nn.Linear(2, 2), nn.Linear(3, 2)))
    with pytest.raises(RuntimeError, match="cannot be multiplied") as caught, recording(layers):
        layers(torch.ones(4, 2))
    assert caught.value.__notes__ == ["in 1.1 (Linear), given float32[4, 2]"]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in layers.modules())


def test_parameters_are_named_by_their_modules() -> None:
    layers = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(6)))
    names = [name for name, _ in layers.named_parameters()]
    assert grouped(layers, names, most=2) == "weight of 0 (Linear), weight of 1 (Linear) and 4 more"
    layers.register_parameter("scale", nn.Parameter(torch.ones(1)))
    assert grouped(layers, ["scale"]) == "scale of the net itself (Sequential)"
