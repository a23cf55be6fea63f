"""Random values that depend on another source than the seed fail the check that is named after the place of their use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import torch

from tests.checking import run_checks_on
from tests.training.checks.test_checks import SLOW, experiment_text
from trainer.training.check_result import CheckStatus, names_of

if TYPE_CHECKING:
    from pathlib import Path

    from _pytest.mark import ParameterSet

    from trainer.training.check_result import Finding

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
AROUND: Final = """
import os, random, time
import numpy as np
from trainer.training.readers import Samples

CALLS = itertools.count(1)
MINE = np.random.default_rng(0)

def before(samples, pick):
    found, samples.last = getattr(samples, "last", -7), pick.index
    return found

class Around(Samples):
    def __init__(self, inner):
        self.inner, self.count = inner, itertools.count(1)

    def __len__(self):
        return len(self.inner)

    @property
    def layout(self):
        return self.inner.layout

    @property
    def classes(self):
        return self.inner.classes

    def labels(self, rows):
        return self.inner.labels(rows)

    def sample(self, pick):
        found = self.inner.sample(pick)
        return found | {{"image": found["image"] * (1 - 1e-5 * ({noise}))}}
"""
CONSTRUCTORS: Final = {
    "the clock in seconds": "nn.init.normal_(self.head.bias, generator=torch.Generator().manual_seed(int(time.time())))",
    "entropy": "nn.init.constant_(self.head.bias, os.urandom(1)[0] + 256 * os.urandom(1)[0])",
    "torch.seed": "torch.seed(); nn.init.normal_(self.head.bias)",
    "a generator without a seed": "nn.init.constant_(self.head.bias, np.random.default_rng().random())",
    "a counter of the module": "nn.init.constant_(self.head.bias, next(CALLS))",
}
READERS: Final = {
    "float(np.random.rand())": "'image' of a sample depends on NumPy's global generator",
    "float(torch.rand(()))": "'image' of a sample depends on torch's global generator",
    "random.random()": "'image' of a sample depends on Python's global generator",
    "time.time() % 7": "'image' of a sample differs when it is read again",
    "next(self.count)": "'image' of a sample differs when it is read again",
    "float(MINE.random())": "'image' of a sample differs when it is read again",
    "before(self, pick)": "'image' of a sample differs when it is read again",
}
READ: Final = "def samples(self, declared, files): return Around(super().samples(declared, files))"


def _long(name: str) -> ParameterSet:
    return pytest.param(name, marks=pytest.mark.long)


def run_quick_checks(folder: Path, patch: pytest.MonkeyPatch, *, noise: str = "0", **wrong: str) -> dict[str, Finding]:
    """Run all quick checks of an experiment with the given fault."""
    file = folder / "random_net.py"
    file.write_text(experiment_text(wrong) + AROUND.format(noise=noise))
    return run_checks_on(file, folder, patch, without=SLOW)


@pytest.mark.parametrize("name", ["the clock in seconds", *map(_long, list(CONSTRUCTORS)[1:])])
def test_an_unseeded_constructor_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    findings = run_quick_checks(tmp_path, monkeypatch, made=CONSTRUCTORS[name])
    assert "constructor" in names_of(list(findings.values()), CheckStatus.FAILED)
    assert findings["constructor"].message == "two nets with one seed have different initial values in head.bias"


@pytest.mark.parametrize("noise", ["float(np.random.rand())", *map(_long, list(READERS)[1:])])
def test_an_unseeded_reader_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: str) -> None:
    findings = run_quick_checks(tmp_path, monkeypatch, noise=noise, more=READ)
    assert names_of(list(findings.values()), CheckStatus.FAILED) == ["reader"], findings
    assert READERS[noise] in findings["reader"].message
    assert "pick" in str(findings["reader"].hint)


DRAWN: Final = """
    def transform(self, sample, generator):
        return sample | {{"image": 1 + sample["image"] * (1 - 1e-5 * ({noise}))}}
"""
"""The transformed values are outside of the declared range: the check `declared` reads samples without the transform."""


@pytest.mark.parametrize(
    ("noise", "failing"),
    [("next(CALLS)", ["reader"]), ("float(torch.rand(())) * random.random() * np.random.rand()", [])],
)
def test_a_transform_fails_unless_its_randomness_follows_from_the_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: str, failing: list[str]
) -> None:
    findings = run_quick_checks(tmp_path, monkeypatch, more=DRAWN.format(noise=noise).strip())
    assert names_of(list(findings.values()), CheckStatus.FAILED) == failing, findings
    end = "'image' of a sample differs when Net.transform is called again" if failing else "; also after Net.transform"
    assert findings["reader"].message.endswith(end)


def test_a_forward_pass_with_state_outside_the_net_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = "hidden = hidden * (1 + 1e-4 * next(CALLS)) if self.training else hidden"
    findings = run_quick_checks(tmp_path, monkeypatch, passed=passed)
    assert names_of(list(findings.values()), CheckStatus.FAILED) == ["training pass"], findings


@pytest.mark.parametrize(("level", "failing"), [("machine", ["determinism"]), ("off", [])])
def test_a_net_that_changes_torchs_switches_fails_unless_determinism_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, failing: list[str]
) -> None:
    file = tmp_path / "switching.py"
    file.write_text(experiment_text({"made": "torch.backends.cudnn.benchmark = True"}))
    findings = run_checks_on(file, tmp_path, monkeypatch, without=SLOW, level=level)
    torch.backends.cudnn.benchmark = False
    assert names_of(list(findings.values()), CheckStatus.FAILED) == failing, findings
    if failing:
        assert "torch.backends.cudnn.benchmark was False and is True" in findings["determinism"].message


@pytest.mark.parametrize("place", ["made", "passed"])
def test_a_net_that_restores_a_default_of_torch_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A run enables determinism before the net is constructed."""
    file = tmp_path / "default.py"
    file.write_text(experiment_text({place: "torch.use_deterministic_algorithms(False)"}))
    findings = run_checks_on(file, tmp_path, monkeypatch, without=SLOW, level="machine")
    assert names_of(list(findings.values()), CheckStatus.FAILED) == ["determinism"], findings
    message = "torch.are_deterministic_algorithms_enabled() was True and is False"
    assert message in findings["determinism"].message


def test_seeded_randomness_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = "float(torch.rand((), generator=pick.generator()))"
    code = "nn.init.constant_(self.head.bias, float(np.random.rand()) + random.random())"
    passed = "hidden = nn.functional.dropout(hidden, 0.1, training=self.training)"
    findings = run_quick_checks(tmp_path, monkeypatch, noise=noise, more=READ, made=code, passed=passed)
    states = {name: findings[name].status for name in ("constructor", "reader", "training pass")}
    assert set(states.values()) == {CheckStatus.PASSED}, findings
