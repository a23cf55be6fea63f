"""The export of trained nets, in the tests' process."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn

from tests.checking import ROOT, run_checks_on
from trainer.training.check_result import CheckFailed, CheckNote
from trainer.training.checks import CHECKS
from trainer.training.checks.exporting import (
    ExampleCall,
    FirstBatch,
    export,
    exportable,
    exporting,
    require_equal_outputs,
)

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


class Plain(L.LightningModule):
    """A module with a forward of the given kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.layer, self.drop = kind, nn.Linear(3, 2), nn.Dropout()

    def forward(self, x: Any) -> Any:
        if self.kind == "branch" and x.sum() > 0:
            return self.layer(x)
        if self.kind == "noise":
            x = x + torch.randn_like(x)
        if self.kind == "number of Python":
            x = x * random.random()  # noqa: S311
        if self.kind == "fixed size":
            x = x.view(8, 3)
        return {"scores": self.drop(self.layer(x)), "names": ["a"]}


def kept(net: L.LightningModule, batch: Any) -> FirstBatch:
    seen = FirstBatch()
    seen.net, seen.batch = net.train(), batch
    return seen


def outcome(kind: str, batch: Any, **example: Any) -> str:
    net = Plain(kind)
    if example:
        net.example_input_array = example["input"]
    return exportable(kept(net, batch), file=Path(__file__), root=ROOT)


@pytest.mark.parametrize("batch", [[torch.ones(8, 3), torch.ones(8)], torch.ones(8, 3), {"x": torch.ones(8, 3)}])
def test_the_input_is_found_in_a_batch(batch: Any) -> None:
    assert outcome("", batch) == "torch.export can export the trained net, for batches of any size; equal bits"


@pytest.mark.parametrize("example", [torch.ones(8, 3), (torch.ones(8, 3),), {"x": torch.ones(8, 3)}])
def test_the_modules_own_example_is_used(example: Any) -> None:
    assert "equal bits" in outcome("", [torch.ones(8, 7)], input=example)


def test_a_forward_that_draws_random_numbers_is_compared_with_equal_ones() -> None:
    assert "equal bits" in outcome("noise", torch.ones(8, 3))


def test_a_fixed_size_program_is_reported() -> None:
    assert outcome("fixed size", torch.ones(8, 3)) == (
        "torch.export can export the trained net, for batches of 8; equal bits"
    )


def test_a_branch_on_values_names_torchs_reason_and_the_line() -> None:
    line = next(
        number
        for number, text in enumerate(Path(__file__).read_text().splitlines(), 1)
        if 'self.kind == "branch"' in text and "next" not in text
    )
    with pytest.raises(CheckFailed, match=rf"^torch.export failed at test_exporting.py:{line}: \w+: .*data-dependent"):
        outcome("branch", torch.ones(8, 3))


def test_a_number_that_python_draws_is_a_constant_of_the_program_and_found() -> None:
    with pytest.raises(CheckFailed, match="the exported program's output differs from the net's"):
        outcome("number of Python", torch.ones(8, 3))


def test_an_input_that_forward_does_not_take_is_not_tested() -> None:
    with pytest.raises(CheckNote, match="not tested: forward does not accept the first element of a batch") as caught:
        outcome("", [torch.ones(8, 7)])
    assert "example_input_array" in str(caught.value.hint)


def test_random_state_and_input_stay_as_they_are() -> None:
    given, net = torch.ones(8, 3), Plain("noise")
    seed = torch.get_rng_state(), random.getstate()
    with exporting():
        net.eval()
        example = ExampleCall(positional=(given,))
        program = export(net, example, dim=None, file=Path(__file__), root=ROOT)
        require_equal_outputs(net, program, example)
    after = torch.get_rng_state(), random.getstate()
    assert torch.equal(seed[0], after[0])
    assert (seed[1], given.tolist()) == (after[1], torch.ones(8, 3).tolist())
    assert torch.is_grad_enabled()


def test_a_module_without_a_forward_is_not_exportable() -> None:
    with pytest.raises(CheckNote, match=r"^not exportable, because forward is not defined$"):
        exportable(kept(L.LightningModule(), torch.ones(8, 3)), file=Path(__file__), root=ROOT)


class Counting(Plain):
    """A module that counts its calls in a buffer that it replaces and in a buffer that it changes in place."""

    calls: torch.Tensor
    sums: torch.Tensor

    def __init__(self) -> None:
        super().__init__("noise")
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("sums", torch.zeros(3), persistent=False)
        self.norm.eval()

    def forward(self, x: Any) -> Any:
        self.calls = self.calls + 1
        self.sums.add_(x.sum(dim=0))
        return super().forward(self.norm(x))


def test_an_export_changes_no_weight_buffer_mode_and_random_state_of_the_net() -> None:
    net = Counting().train()
    net.norm.eval()

    def state() -> list[Any]:
        tensors = [*net.named_parameters(), *net.named_buffers()]
        modes = [each.training for each in net.modules()]
        return [
            [(name, each.tolist()) for name, each in tensors],
            modes,
            torch.get_rng_state().tolist(),
            random.getstate(),
        ]

    before, seen = state(), FirstBatch()
    seen.net, seen.batch = net, [torch.ones(8, 3)]
    assert "torch.export can export the trained net" in exportable(seen, file=Path(__file__), root=ROOT)
    assert state() == before


def test_the_net_of_digits_can_be_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = {*CHECKS} - {"settings", "data", "forward", "export"}
    findings = run_checks_on(ROOT / "trainer/experiments/digits.py", tmp_path, monkeypatch, without=others)
    assert (
        findings["export"].message == "the exported program's output is equal within 0.0001, also for other batch sizes"
    )
