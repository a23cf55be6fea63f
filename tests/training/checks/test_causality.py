"""Nets that use later inputs are detected, with the positions and the module; correct nets pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.training.check_result import CheckFailed, CheckNote, NothingToCheck
from trainer.training.checks.evaluation import causality
from trainer.training.tasks.classification import Classifier
from trainer.training.tasks.sequences import BYTES, SequenceModel

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.torch
WIDTH, TIME = 8, 12


class Net(SequenceModel):
    """A net that embeds bytes, applies layers to `[batch, time, width]`, and returns scores."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.bytes, self.layers, self.scores = nn.Embedding(BYTES, WIDTH), layers, nn.Linear(WIDTH, BYTES)

    def forward(self, text: Tensor) -> Tensor:
        scores: Tensor = self.scores(self.layers(self.bytes(text)))
        return scores


class OverTime(nn.Module):
    """A module that applies a layer over time, to `[batch, width, time]`."""

    def __init__(self, inner: nn.Module, *, left: int = 0) -> None:
        super().__init__()
        self.inner, self.left = inner, left

    def forward(self, values: Tensor) -> Tensor:
        turned: Tensor = self.inner(F.pad(values.transpose(1, 2), (self.left, 0))).transpose(1, 2)
        return turned


class MaskedAttention(nn.Module):
    """Torch's attention with a mask of all positions at `beyond` or later."""

    def __init__(self, beyond: int) -> None:
        super().__init__()
        self.beyond, self.heads = beyond, nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, values: Tensor) -> Tensor:
        time = values.shape[1]
        hidden = torch.ones(time, time, dtype=torch.bool).triu(self.beyond)
        found: Tensor = self.heads(values, values, values, attn_mask=hidden)[0]
        return values + found


class CustomLayer(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, values: Tensor) -> Tensor:
        return self.function(values)


class Recurrent(nn.Module):
    def __init__(self, *, both: bool) -> None:
        super().__init__()
        self.inner = nn.GRU(WIDTH, WIDTH // (2 if both else 1), batch_first=True, bidirectional=both)

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.inner(values)[0]
        return found


def check_layers(layers: nn.Module) -> str:
    torch.manual_seed(0)
    for parameter in layers.parameters():
        nn.init.normal_(parameter, std=0.5)
    given = torch.randint(BYTES, (4, TIME))
    trial: Any = SimpleNamespace(net=Net(layers), given=given)
    return causality(trial)


WRONG: Final[dict[str, tuple[Callable[[], nn.Module], int, int, str, str | None]]] = {
    "attention without a mask": (
        lambda: MaskedAttention(TIME),
        0,
        TIME - 1,
        "layers.heads (MultiheadAttention)",
        "attn_mask",
    ),
    "a mask one position too wide": (
        lambda: MaskedAttention(2),
        0,
        1,
        "layers.heads (MultiheadAttention)",
        "attn_mask",
    ),
    "a centred convolution": (
        lambda: nn.Sequential(nn.ReLU(), OverTime(nn.Conv1d(WIDTH, WIDTH, 5, padding=2))),
        0,
        2,
        "layers.1.inner (Conv1d)",
        "only on the left",
    ),
    "normalisation over time": (
        lambda: OverTime(nn.InstanceNorm1d(WIDTH)),
        0,
        TIME - 1,
        "layers.inner (InstanceNorm1d)",
        "each position separately",
    ),
    "a batch norm that keeps no average": (
        lambda: OverTime(nn.BatchNorm1d(WIDTH, track_running_stats=False)),
        0,
        TIME - 1,
        "layers.inner (BatchNorm1d)",
        "each position separately",
    ),
    "both directions": (lambda: Recurrent(both=True), 0, TIME - 1, "layers.inner (GRU)", "bidirectional=False"),
    "a mean of all positions": (
        lambda: CustomLayer(lambda values: values - values.mean(dim=1, keepdim=True)),
        0,
        TIME - 1,
        "layers (CustomLayer)",
        None,
    ),
    "the end alone": (
        lambda: CustomLayer(lambda values: torch.cat([values[:, :-2], values[:, -1:], values[:, -1:]], dim=1)),
        TIME - 2,
        TIME - 1,
        "layers (CustomLayer)",
        None,
    ),
}
RIGHT: Final[dict[str, Callable[[], nn.Module]]] = {
    "attention with a mask": lambda: MaskedAttention(1),
    "a convolution padded on the left": lambda: OverTime(nn.Conv1d(WIDTH, WIDTH, 5), left=4),
    "one direction": lambda: Recurrent(both=False),
    "dropout": lambda: nn.Dropout(0.5),
    "layer norm of each position": lambda: nn.LayerNorm(WIDTH),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_net_that_looks_ahead_fails(name: str) -> None:
    layers, place, ahead, module, advice = WRONG[name]
    with pytest.raises(CheckFailed) as caught:
        check_layers(layers())
    assert caught.value.message.startswith(f"the output at position {place} depends on the input at position {ahead} (")
    assert caught.value.message.endswith(f", first in {module}")
    assert advice is None or advice in str(caught.value.hint)


@pytest.mark.parametrize("name", RIGHT)
def test_a_causal_net_passes(name: str) -> None:
    assert check_layers(RIGHT[name]()).startswith(f"{TIME} positions: no output depends")


def test_looking_ahead_only_in_training_mode_is_a_note() -> None:
    norm = nn.BatchNorm1d(WIDTH)
    before = {name: value.clone() for name, value in norm.state_dict().items() if "running" in name}
    with pytest.raises(CheckNote, match=r"in training mode the output at position 0 .* layers.inner \(BatchNorm1d\)"):
        check_layers(OverTime(norm))
    assert all(torch.equal(value, norm.state_dict()[name]) for name, value in before.items())
    assert norm.training


def test_a_task_without_positions_is_not_checked() -> None:
    trial: Any = SimpleNamespace(net=type("Other", (Classifier,), {})(), given=torch.zeros(4, 1, 8, 8))
    with pytest.raises(NothingToCheck, match="not causal"):
        causality(trial)
