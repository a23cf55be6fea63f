"""Optimizers and schedules by name: each can step, uses its own settings and rejects others."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.small_training import REGRESSOR, Small
from trainer.base.errors import SettingError
from trainer.settings.ledger import Ledger, call_configured, use_ledger
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.optimization.optimizers import ANY_CPU, describe_short_warmup, make_optimizer, make_schedule
from trainer.training.settings import TrainingSettings

if TYPE_CHECKING:
    from pathlib import Path

    from torch.optim import Optimizer

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*")]
OPTIMIZERS = get_args(TrainingSettings.__pydantic_fields__["optimizer"].annotation)
SCHEDULES = get_args(TrainingSettings.__pydantic_fields__["schedule"].annotation)


def make_ledger(*words: str) -> Ledger:
    return Ledger(resolve(TrainingSettings, Origins(options=parse_options(["--dataset", "d", *words]), environ={})))


def make_steps(*words: str) -> tuple[Optimizer, list[float], Ledger]:
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    with use_ledger(make_ledger(*words)) as ledger:
        optimizer = call_configured(make_optimizer, [weight])
        schedule = call_configured(make_schedule, optimizer, steps=10)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.zero_grad()
        torch.autograd.backward(weight.square().sum())
        optimizer.step()
        schedule.step()
    assert weight.square().sum() < 5
    return optimizer, rates, ledger


@pytest.mark.parametrize("name", sorted({*SCHEDULES} - {"one_cycle"}))
def test_a_warmup_that_is_longer_than_the_run_is_noted(name: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))])
    for warmup_steps in (0, 1, 9, 10, 11, 40):
        with use_ledger(make_ledger("--schedule", name, "--warmup-steps", str(warmup_steps))):
            note = describe_short_warmup(call_configured(make_schedule, optimizer, steps=10), steps=10)
        reached = {11: "0.91", 40: "0.25"}.get(warmup_steps)
        expected = f"warmup_steps is {warmup_steps}, but the run has 10 optimizer steps: the learning rate increases only to {reached}"
        assert note == (f"{expected} of learning_rate" if reached else "")


@pytest.mark.parametrize(("warmup_steps", "is_noted"), [("3", False), ("6", True)])
def test_a_run_prints_a_note_on_a_long_warmup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warmup_steps: str, *, is_noted: bool
) -> None:
    small = Small(place=tmp_path, code=REGRESSOR, y=np.arange(40, dtype=np.float32))
    small.train(monkeypatch, "--warmup-steps", warmup_steps)
    note = (
        "warmup_steps is 6, but the run has 3 optimizer steps: the learning rate increases only to 0.5 of learning_rate"
    )
    assert (note in small.messages) == is_noted


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss(name: str) -> None:
    make_steps("--optimizer", name, "--learning-rate", "0.01")


@pytest.mark.parametrize(
    ("schedule", "words", "rates"),
    [
        ("constant", (), [1.0] * 10),
        ("linear", (), [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        ("linear", ("--final-rate", "0.5"), [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55]),
        ("cosine", ("--warmup-steps", "2"), [0.5, 1.0, 1.0, 0.962, 0.854, 0.691, 0.5, 0.309, 0.146, 0.038]),
        ("step", ("--step-size", "4", "--gamma", "0.5"), [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]),
        (
            "step",
            ("--step-size", "3", "--gamma", "0.5", "--warmup-steps", "4"),
            [0.25, 0.5, 0.75, 1, 1, 1, 1, 0.5, 0.5, 0.5],
        ),
        ("one_cycle", (), [0.04, 0.52, 1.0, 0.95, 0.811, 0.611, 0.389, 0.188, 0.05, 0.0]),
    ],
)
def test_a_schedule_has_the_shape_of_its_name(schedule: str, words: tuple[str, ...], rates: list[float]) -> None:
    found = make_steps("--optimizer", "sgd", "--learning-rate", "0.01", "--schedule", schedule, *words)[1]
    assert [rate / 0.01 for rate in found] == pytest.approx(rates, abs=1e-3)


@pytest.mark.parametrize(
    ("words", "name", "hint"),
    [
        (("--momentum", "0.5"), "momentum", "it is used with --optimizer sgd"),
        (("--optimizer", "sgd", "--beta1", "0.5"), "beta1", "--optimizer adam or --optimizer adamw"),
        (("--final-rate", "0.5"), "final_rate", "it is used with --schedule cosine or --schedule linear"),
        (
            ("--schedule", "one_cycle", "--warmup-steps", "5"),
            "warmup_steps",
            "--schedule constant or --schedule cosine",
        ),
        (("--schedule", "cosine", "--step-size", "5"), "step_size", "it is used with --schedule step"),
    ],
)
def test_a_setting_that_the_chosen_optimizer_does_not_use_is_rejected(
    words: tuple[str, ...], name: str, hint: str
) -> None:
    ledger = make_steps("--learning-rate", "0.01", *words)[2]
    assert [one for one in ledger.unbound() if one not in {"dataset", "learning_rate"}] == [name]
    with pytest.raises(SettingError) as caught:
        ledger.require_bound()
    assert hint in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - set(ANY_CPU)))
def test_portable_determinism_rejects_optimizers_that_differ_between_cpus(name: str) -> None:
    words = ("--optimizer", name, "--learning-rate", "0.01", "--determinism", "portable")
    with pytest.raises(SettingError, match="expected adamw, adam, adagrad, sgd"):
        make_steps(*words)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(SettingError, match="nesterov is on, but momentum is 0"):
        make_steps("--optimizer", "sgd", "--nesterov", "--momentum", "0")
    assert make_steps("--optimizer", "sgd", "--nesterov", "--learning-rate", "0.01")[0].param_groups[0]["nesterov"]


def test_every_schedule_is_tested() -> None:
    assert set(SCHEDULES) == {"constant", "linear", "cosine", "step", "one_cycle"}


RECORDED = (
    REGRESSOR
    + """
    def training_step(self, batch, index):
        state = {name: each.detach().clone() for name, each in self.layers.state_dict().items()}
        torch.save((batch["x"], batch["y"], state), f"{BATCHES}/{self.current_epoch}-{index}.pt")
        return super().training_step(batch, index)
"""
)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_accumulated_gradients_count_alike_also_in_an_incomplete_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: float | None
) -> None:
    """24 samples in batches of 7: the second step of the epoch has only the last batch, of 3 samples."""
    small = Small(place=tmp_path, code=RECORDED.replace("{BATCHES}", str(tmp_path)), y=np.arange(40, dtype=np.float32))
    words = ("--accumulate", "3", "--optimizer", "sgd", "--momentum", "0", "--learning-rate", "0.001")
    small.train(monkeypatch, "--batch-size", "7", *words, *(() if clip is None else ("--clip-norm", str(clip))))
    batches = [torch.load(each) for each in sorted(tmp_path.glob("0-*.pt"))]
    weights, bias = batches[0][2]["weight"][0].double(), batches[0][2]["bias"].double()
    for step in (batches[:3], batches[3:]):
        wrong = [(x.double(), x.double() @ weights + bias - y.double()) for x, y, _ in step]
        parts = [torch.cat([2 * x.T @ each / len(x), 2 * each.mean()[None]]) for x, each in wrong]
        total = torch.stack(parts).sum(0) / 3
        total = total * min(1.0, (clip or torch.inf) / float(total.norm()))
        weights, bias = weights - 0.001 * total[:4], bias - 0.001 * total[4]
    found = load_file(tmp_path / "attempt" / "weights.safetensors")
    assert torch.allclose(found["layers.weight"][0].double(), weights, atol=1e-5)
    assert torch.allclose(found["layers.bias"].double(), bias, atol=1e-5)
