"""Frozen parameters and separate learning rates, by patterns of names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file
from torch import nn

from tests.small_training import CLASSIFIER, Small
from trainer.base.errors import SettingError
from trainer.training.optimization.parameter_groups import freeze, trained_parameters

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch
CODE = CLASSIFIER.replace(
    "nn.Linear(4, 2)",
    "nn.ModuleDict({'body': nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), 'head': nn.Linear(3, 2)})",
).replace("self.layers(x)", "self.layers['head'](self.layers['body'](x))")
BODY = '["layers.body.*"]'


def make_net() -> nn.Module:
    return nn.ModuleDict({"body": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "head": nn.Linear(2, 1)})


def train(place: Path, patch: pytest.MonkeyPatch, *words: str) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
    """Return the last weights, the content of tensors.json, and the lines of the trace."""
    place.mkdir()
    Small(place=place, code=CODE).train(patch, "--max-epochs", "2", *words)
    folder = place / "attempt"
    lines = [json.loads(line) for line in (folder / "trace.jsonl").read_text().splitlines()]
    return load_file(folder / "weights.safetensors"), json.loads((folder / "tensors.json").read_text()), lines


def test_frozen_parameters_and_their_batch_norm_stay_and_are_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, _, _ = train(tmp_path / "short", monkeypatch, "--frozen", BODY, "--max-steps", "1")
    long, tensors, trace = train(tmp_path / "long", monkeypatch, "--frozen", BODY)
    same = {name for name in long if long[name].equal(short[name])}
    assert same == {name for name in long if name.startswith("layers.body.")}
    assert long["layers.body.1.running_mean"].eq(0).all()
    names = [f"layers.body.{name}" for name in ("0.weight", "0.bias", "1.weight", "1.bias")]
    assert tensors["frozen"] == trace[0]["frozen"] == names
    assert {name.partition("/")[0] for name in tensors["optimizer"]} == {"layers.head.weight", "layers.head.bias"}


def test_without_the_setting_nothing_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, tensors, trace = train(tmp_path / "plain", monkeypatch)
    assert "frozen" not in tensors.keys() | trace[0].keys()


def test_a_batch_norm_with_one_trained_parameter_keeps_training() -> None:
    net = make_net()
    freeze(net, frozen=["body.1.bias"])
    assert net["body"][1].training  # type: ignore[index]
    freeze(net, frozen=["body.1.*"])
    assert not net["body"][1].training  # type: ignore[index]


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_each_group_has_its_rate_in_the_schedule_and_the_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    words = ("--learning-rates", '{"layers.body.*": 1e-5}', "--learning-rate", "1e-3", "--schedule", schedule)
    _, _, trace = train(tmp_path / "groups", monkeypatch, *words)
    names = trace[0]["schedule"]
    steps = [dict(zip(names, line["schedule"], strict=True)) for line in trace if "schedule" in line and "loss" in line]
    assert len(steps) == 6
    assert all(step["1.lr"] == pytest.approx(step["0.lr"] / 100) for step in steps)


def test_the_groups_do_not_depend_on_the_order_of_the_table() -> None:
    net = make_net()
    rates = {"head.*": 1e-3, "body.*": 1e-4}
    found = [
        trained_parameters(net, frozen=[], learning_rates=dict(each))
        for each in (rates.items(), reversed(rates.items()))
    ]
    assert [[group["lr"] for group in groups] for groups in found] == [[1e-4, 1e-3]] * 2


def test_a_pattern_that_matches_nothing_names_the_nearest() -> None:
    with pytest.raises(SettingError, match=r"'bodi\.\*' matches no parameter of ModuleDict") as raised:
        freeze(make_net(), frozen=["bodi.*"])
    assert raised.value.hint == "did you mean body.*?"


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"head.*": 1e-3, "*.bias": 1e-3}, "both match head.bias"),
        ({"body.*": 1e-3}, "matches only frozen parameters"),
        ({"tail": 1e-3}, "matches no parameter"),
    ],
)
def test_rates_that_would_be_ambiguous_or_unused_are_rejected(rates: dict[str, float], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        trained_parameters(make_net(), frozen=["body.*"], learning_rates=rates)
