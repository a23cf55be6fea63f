"""The command `reprise certify`: a reproducible training is certified, and hidden state is detected."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.certified import make_keys

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.long]
SECRETIVE: Final = """
import os
from pathlib import Path
import numpy as np
from torch import Tensor, nn
from trainer.training.readers import Samples
from trainer.training.tasks.classification import ClassificationSettings, Classifier

if edited := os.environ.get("EDITED"):
    Path(edited).write_text(os.environ["REPRISE_LAUNCH"])

class Settings(ClassificationSettings):
    dataset = "dots"
    classes = 2
    batch_size = 2
    keeps: bool = False
    noisy: bool = False

class Noisy(Samples):
    def __init__(self, samples):
        self.inner = samples

    def __len__(self):
        return len(self.inner)

    def labels(self, rows):
        return self.inner.labels(rows)

    def sample(self, pick):
        found = self.inner.sample(pick)
        return found | {"image": found["image"] + float(np.random.rand())}

class Net(Classifier):
    def __init__(self, *, classes: int, keeps: bool, noisy: bool) -> None:
        super().__init__()
        self.keeps, self.noisy, self.calls = keeps, noisy, 0
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(16, classes))

    def samples(self, dataset, data):
        found = super().samples(dataset, data)
        return Noisy(found) if self.noisy else found

    def forward(self, images: Tensor) -> Tensor:
        self.calls += self.keeps
        return self.layers(images) * (1 + self.calls)
"""


def run_certify(checkout: Checkout, claim: str, *words: str) -> subprocess.CompletedProcess[str]:
    (checkout.root / "secretive.py").write_text(SECRETIVE)
    command = [sys.executable, "-m", "trainer", "certify", claim, "secretive.py", "--json", "--no-publish", *words]
    return subprocess.run(command, cwd=checkout.root, env=checkout.environ, capture_output=True, text=True, check=False)


def certify(checkout: Checkout, claim: str, *words: str) -> tuple[int, dict[str, Any]]:
    done = run_certify(checkout, claim, *words)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["predicate"]


def test_state_outside_the_weights_is_not_restored(checkout: Checkout) -> None:
    code, tested = certify(checkout, "resume", "--keeps", "--max-epochs", "4", "--kill-after", "10")
    assert (code, tested["holds"], tested["claim"]) == (20, False, "resume"), tested
    assert tested["killed_after"] >= tested["resumed_from"] >= 3
    assert (tested["lost"]["stream"], tested["lost"]["step"]) == ("forward", tested["resumed_from"] + 1)
    assert "other state of the model" in tested["lost"]["what"]


@pytest.mark.parametrize("claim", ["rerun", "resume"])
def test_a_plain_net_is_certified_and_signed(checkout: Checkout, tmp_path: Path, claim: str) -> None:
    private, public = make_keys(tmp_path)
    code, tested = certify(checkout, claim, "--max-epochs", "4", "--key", str(private))
    assert (code, tested["holds"], tested["lost"]) == (0, True, None), tested
    assert checkout.last()[1].circumstances.purpose == "certify"
    path = max(
        (checkout.root / "runs").glob(f"*/certificates/{claim}.dsse.json"), key=lambda file: file.stat().st_mtime
    )
    command = [sys.executable, "-m", "trainer", "verify", str(path), "--key", str(public)]
    verified = subprocess.run(
        command, cwd=checkout.root, env=checkout.environ, capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stdout.count("as certified")) == (0, 2), verified.stderr


def test_a_kill_after_the_last_step_is_rejected(checkout: Checkout) -> None:
    done = run_certify(checkout, "resume", "--max-epochs", "1", "--kill-after", "25")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--kill-after is 25, but the run has 25 steps" in done.stderr
    assert "killed after" not in done.stderr


def test_after_the_last_possible_kill_one_step_remains(checkout: Checkout) -> None:
    code, tested = certify(checkout, "resume", "--max-epochs", "1", "--kill-after", "24")
    assert (code, tested["holds"], tested["steps"]) == (0, True, 25), tested
    assert tested["resumed_from"] < 25


def test_a_reader_that_draws_from_a_global_generator_is_not_certified_to_resume(checkout: Checkout) -> None:
    code, tested = certify(checkout, "resume", "--max-epochs", "2", "--workers", "2", "--noisy")
    assert (code, tested["holds"]) == (20, False), tested
    assert tested["lost"]["stream"] == "data"


@pytest.mark.parametrize("claim", ["rerun", "resume"])
def test_edits_during_certification_are_in_no_training(
    checkout: Checkout, claim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run overwrites the experiment in the checkout with invalid Python, which no run reads."""
    monkeypatch.setenv("EDITED", str(checkout.root / "secretive.py"))
    code, tested = certify(checkout, claim, "--max-epochs", "4")
    assert (code, tested["holds"]) == (0, True), tested
    assert (checkout.root / "secretive.py").read_text().startswith("{")
