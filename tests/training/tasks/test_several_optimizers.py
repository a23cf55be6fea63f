"""A task with several optimizers: its steps, schedules and trace, and the resume of a killed run."""

from __future__ import annotations

import json
import signal
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.small_training import CLASSIFIER, Small

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.conftest import Checkout

pytestmark = pytest.mark.torch
STEPS: Final = """
    def optimized_modules(self):
        return [self.body, self.head]

    def training_step(self, batch, index):
        given, wanted = self.split_batch(batch)
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            loss = self.loss(self(given), wanted)
            self.manual_backward(loss)
            optimizer.step()
        self.learned.update(loss.detach(), len(wanted))
"""
CODE: Final = (
    CLASSIFIER.replace(
        "self.layers = nn.Linear(4, 2)",
        "self.body, self.head = nn.Linear(4, 3), nn.Linear(3, 2)\n        self.automatic_optimization = False",
    ).replace("self.layers(x)", "self.head(self.body(x))")
    + STEPS
)
DOTS: Final = (
    """
from torch import Tensor, nn
from trainer.training.tasks.classification import ClassificationSettings, Classifier

class Settings(ClassificationSettings):
    dataset = "dots"
    classes = 2
    batch_size = 8

class Net(Classifier):
    def __init__(self, *, classes: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(), nn.Flatten())
        self.head = nn.Linear(16, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))
"""
    + STEPS
)


def lines_of(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place / "attempt/trace.jsonl").read_text().splitlines()]


def test_both_optimizers_have_the_settings_schedule_and_their_own_groups_in_the_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        "--learning-rate",
        "1e-2",
        "--learning-rates",
        '{"head.*": 1e-3}',
        "--schedule",
        "linear",
        "--warmup-steps",
        "2",
    )
    trained = Small(place=tmp_path, code=CODE).train(monkeypatch, "--max-epochs", "2", *words)
    header, *lines = lines_of(tmp_path)
    rates = [
        [line["schedule"][header["schedule"].index(f"{group}.lr")] for line in lines if "loss" in line]
        for group in (0, 1)
    ]
    assert rates[0] == pytest.approx([0.005, 0.01, 0.01, 0.0075, 0.005, 0.0025])
    assert rates[1] == pytest.approx([rate / 10 for rate in rates[0]])
    assert trained.steps == 12
    table = json.loads((tmp_path / "attempt/tensors.json").read_text())
    assert {name.partition("/")[0] for name in table["optimizer"]} == {
        "body.weight",
        "body.bias",
        "head.weight",
        "head.bias",
    }


def test_max_steps_counts_the_steps_of_all_optimizers_and_ends_the_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--max-steps", "8", "--schedule", "linear", "--learning-rate", "1")
    assert Small(place=tmp_path, code=CODE).train(monkeypatch, "--max-epochs", "9", *words).steps == 8
    header, *lines = lines_of(tmp_path)
    at = header["schedule"].index("1.lr")
    assert [line["schedule"][at] for line in lines if "loss" in line] == [1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize(
    ("edit", "words", "message"),
    [
        (("[self.body, self.head]", "[self.body]"), (), "parameter head.weight is in 0 optimizers"),
        (("[self.body, self.head]", "[self, self.head]"), (), "parameter head.weight is in 2 optimizers"),
        (
            ("automatic_optimization = False", "x = 1"),
            (),
            "Net has 2 optimizers, but automatic optimization steps exactly one",
        ),
        (("x", "x"), ("--accumulate", "2"), "setting accumulate has no effect: Net optimizes manually"),
        (("x", "x"), ("--clip-norm", "1"), "setting clip_norm has no effect: Net optimizes manually"),
    ],
)
def test_optimizers_that_would_not_train_as_declared_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: tuple[str, str], words: tuple[str, ...], message: str
) -> None:
    failure = Small(place=tmp_path, code=CODE.replace(*edit)).failed(monkeypatch, *words)
    assert message in str(failure)


@pytest.mark.trains
@pytest.mark.long
def test_a_killed_run_resumes_to_identical_bits(checkout: Checkout) -> None:
    (checkout.root / "several.py").write_text(DOTS)
    words = (
        "--exp",
        "several.py",
        "--max-epochs",
        "30",
        "--schedule",
        "cosine",
        "--checkpoint-every",
        "4",
        "--no-publish",
    )
    code, _, err = checkout.train(*words)
    assert code == 0, err
    whole, _ = checkout.last()
    before, process = {*(checkout.root / "runs").iterdir()}, checkout.start(*words)
    end, killed = monotonic() + 100, None
    while killed is None and monotonic() < end and process.poll() is None:
        new = [path for path in (checkout.root / "runs").glob("2*") if path not in before]
        trace = new[0] / "attempts/1/trace.jsonl" if new else None
        if trace and trace.exists() and trace.read_bytes().count(b"\n") > 60:
            process.send_signal(signal.SIGKILL)
            killed = new[0]
        sleep(0.002)
    process.communicate(timeout=60)
    assert killed is not None
    assert process.returncode == -signal.SIGKILL
    resumed = checkout.reprise("train", "--resume", killed.name)
    assert resumed.returncode == 0, resumed.stderr
    for name in ("weights.safetensors", "tensors.json", "trace.jsonl", "metrics.jsonl"):
        assert (killed / "attempts/2" / name).read_bytes() == (whole / name).read_bytes(), name
