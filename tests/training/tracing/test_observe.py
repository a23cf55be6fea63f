"""The command `reprise check --bits`: nondeterministic modules are detected and named."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = pytest.mark.torch
ODD: Final = """
import itertools, os
import torch
from torch import Tensor, nn
from trainer.training.tasks.classification import ClassificationSettings, Classifier

COUNT = itertools.count(1)

class Settings(ClassificationSettings):
    dataset = "dots"
    classes = 2
    batch_size = 8
    odd: str = "no"

class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        return values * 2
    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2 + gradient * (os.urandom(8)[0] + next(COUNT)) * 1e-3

class Odd(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, values: Tensor) -> Tensor:
        match self.kind:
            case "counter":
                return values * (1 + next(COUNT) * 1e-3)
            case "urandom":
                return values + torch.frombuffer(bytearray(os.urandom(8)), dtype=torch.uint8).float().mean()
            case "generator":
                own = torch.Generator()
                own.seed()
                return values + torch.rand(values.shape, generator=own)
            case "backward":
                return Doubled.apply(values)
        return values

class Net(Classifier):
    def __init__(self, *, classes: int, odd: str) -> None:
        super().__init__()
        self.odd = odd
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), Odd(odd), nn.Dropout(), nn.Linear(8, classes))

    def forward(self, images: Tensor) -> Tensor:
        if self.odd == "around":
            images = images + next(COUNT) * 1e-3
        return self.layers(images)
"""


def check_bits(checkout: Checkout, kind: str, *words: str) -> tuple[int, dict[str, Any]]:
    (checkout.root / "odd.py").write_text(ODD)
    command = [sys.executable, "-m", "trainer", "check", "--bits", "odd.py", "--odd", kind, "--json", *words]
    done = subprocess.run(command, cwd=checkout.root, env=checkout.environ, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.long
def test_a_deterministic_net_is_clean(checkout: Checkout) -> None:
    before = set((checkout.root / "runs").iterdir())
    code, found = check_bits(checkout, "no")
    assert (code, found["equal"], found["steps"]) == (0, True, 3)
    assert found["values"] > 50
    assert set((checkout.root / "runs").iterdir()) == before


@pytest.mark.parametrize(
    ("kind", "module", "operation"),
    [
        pytest.param(
            "urandom",
            "layers.2",
            "a different tensor that was not produced by a torch operation",
            marks=pytest.mark.trains,
        ),
        pytest.param("counter", "layers.2", "aten.mul.Tensor", marks=pytest.mark.long),
        pytest.param("generator", "layers.2", "aten.rand.generator", marks=pytest.mark.long),
        pytest.param("around", "", "aten.add.Tensor", marks=pytest.mark.long),
        pytest.param("backward", None, "aten.mul.Tensor", marks=pytest.mark.long),
    ],
)
def test_the_module_and_the_operation_are_named(
    checkout: Checkout, kind: str, module: str | None, operation: str
) -> None:
    code, found = check_bits(checkout, kind, "--steps", "2")
    assert (code, found["equal"], found["step"], found["module"]) == (20, False, 1, module), found
    assert operation in found["operation"]
