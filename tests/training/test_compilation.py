"""Compiled nets: what is compiled, what is rejected, that names stay the same, and that two compiled runs are bit-identical."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightning as L
import pytest
import torch
import torch._inductor.config
from torch import nn
from torch._dynamo.utils import counters
from torchmetrics.classification import BinaryAccuracy

from tests.small_training import CLASSIFIER, Small
from trainer.base.errors import RepriseError, SettingError
from trainer.settings.determinism import Level
from trainer.training import compilation
from trainer.training.compilation import CompileNet, compiled_parts, compiling

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]  # torch warns while it compiles


class Net(L.LightningModule):
    """Layers in a container, a metric with a state, and a loss without parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 1)])
        self.accuracy, self.loss = BinaryAccuracy(), nn.MSELoss()


def test_layers_are_compiled_and_metrics_are_not() -> None:
    net = Net()
    assert list(compiled_parts(net)) == [net, *net.blocks]


def test_the_names_of_weights_stay() -> None:
    net = Net()
    before = list(net.state_dict())
    CompileNet().on_train_start(None, net)
    assert list(net.state_dict()) == before


@pytest.mark.trains
@pytest.mark.long
def test_layers_of_torch_that_a_step_calls_itself_are_compiled() -> None:
    net = Net()
    torch._dynamo.reset()
    counters.clear()
    CompileNet().on_train_start(None, net)
    net.blocks[1](net.blocks[0](torch.ones(3, 2))).sum().backward()
    assert counters["stats"]["unique_graphs"] == 2


def test_without_the_setting_nothing_is_compiled() -> None:
    assert compiling("cpu", compile=False, determinism=Level.PORTABLE) == []


def test_an_environment_without_a_compiler_is_rejected_with_the_packages_to_add(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingError, match=r"has no C\+\+ compiler") as raised:
        compiling("cpu", compile=True, determinism=Level.MACHINE)
    assert 'add "g++" and "python3-dev" to `packages`' in str(raised.value.hint)


def test_compiled_kernels_are_not_portable() -> None:
    with pytest.raises(SettingError, match="at determinism portable"):
        compiling("cpu", compile=True, determinism=Level.PORTABLE)


@pytest.mark.trains
def test_more_shapes_than_are_compiled_are_an_error_and_not_other_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "_MOST_SHAPES", 1)
    torch._dynamo.reset()
    failure = Small(place=tmp_path, code=CLASSIFIER).failed(monkeypatch, "--compile", "--batch-size", "5")
    assert isinstance(failure, RepriseError)
    assert failure.message.startswith("the compiled net was called with more than 64 shapes of tensors")
    assert "--no-compile" in str(failure.hint)


@pytest.mark.trains
def test_two_compiled_trainings_are_bit_identical_and_are_no_uncompiled_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = CLASSIFIER.replace(
        "nn.Linear(4, 2)", "nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Dropout(), nn.Linear(8, 2))"
    )
    found = []
    for number, words in enumerate([("--compile",), ("--compile",), ()]):
        (tmp_path / str(number)).mkdir()
        torch._dynamo.reset()
        with torch._inductor.config.patch(force_disable_caches=True):  # without caches each net is compiled again
            trained = Small(place=tmp_path / str(number), code=code).train(monkeypatch, *words, "--max-epochs", "2")
        found.append((trained.weights, trained.metrics))
    assert found[0] == found[1]
    assert found[0] != found[2]
