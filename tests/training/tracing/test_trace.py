"""The tracer in a real fit: a line for each step, in order, that covers every bit, on any device, without an effect on training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from trainer.comparison.trace import FILE, Stream, Trace, first_difference, read_trace
from trainer.comparison.trace_lines import Evaluation, Step, numbers_of
from trainer.training.tracing.fingerprints import DeviceIntegers
from trainer.training.tracing.trace import Tracer, norm_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.training.tracing.fingerprints import HostIntegers

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


class Net(L.LightningModule):
    """Two layers and a norm; `meddle` may change something before a step."""

    def __init__(self, meddle: Callable[[Net, int], None]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout())
        self.head = nn.Linear(4, 1)
        self.meddle = meddle
        self.results: dict[str, float] = {}

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        self.meddle(self, index)
        found: Tensor = self.head(self.body(batch)).square().mean()
        return found

    def validation_step(self, batch: Tensor, index: int) -> None:
        """Measure nothing."""

    def on_validation_epoch_end(self) -> None:
        self.results = {"val_loss": 0.25}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def train_and_trace(
    folder: Path, meddle: Callable[[Net, int], None] = lambda *_: None, **how: Any
) -> tuple[Trace, Net]:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    net = Net(meddle)
    loader: DataLoader[Any] = DataLoader(torch.randn(12, 3), batch_size=2)  # type: ignore[arg-type]
    tracer = Tracer(folder, full=how.pop("full", False), integers=how.pop("integers", None))
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    options = {"max_epochs": 1, "num_sanity_val_steps": 0, "accelerator": "cpu", **quiet, **how}
    L.Trainer(**options, callbacks=[tracer]).fit(net, loader, loader)
    return read_trace(folder / FILE), net


@pytest.mark.parametrize("integers", [None, DeviceIntegers()])
def test_each_step_and_each_validation_has_a_line(tmp_path: Path, integers: HostIntegers | None) -> None:
    trace, net = train_and_trace(tmp_path, integers=integers)
    *steps, last = trace.entries()
    assert [entry.step for entry in steps] == [1, 2, 3, 4, 5, 6]
    assert last == Evaluation(evaluation="val", step=6, values={"val_loss": 0.25})
    entries = [entry for entry in steps if isinstance(entry, Step)]
    assert dict(zip(trace.header.schedule, entries[0].schedule, strict=True))["0.lr"] == 0.1
    assert trace.header.tensors == list(net.state_dict())
    assert all(len(numbers_of(step.loss)) == len(numbers_of(step.gradient)) == 1 for step in entries)
    assert len({step.data for step in entries}) == len({step.weights for step in entries}) == 6


def test_an_accumulated_step_has_the_losses_of_all_its_batches(tmp_path: Path) -> None:
    trace, _ = train_and_trace(tmp_path, accumulate_grad_batches=4)
    first, second, *_ = [entry for entry in trace.entries() if isinstance(entry, Step)]
    assert (first.batch, len(numbers_of(first.loss))) == (4, 4)
    assert (second.batch, len(numbers_of(second.loss))) == (6, 2)


@pytest.mark.parametrize("integers", [None, DeviceIntegers()])
def test_equal_trainings_write_equal_traces(tmp_path: Path, integers: HostIntegers | None) -> None:
    _, net = train_and_trace(tmp_path / "a", integers=integers)
    _, same = train_and_trace(tmp_path / "b", integers=integers)
    assert (tmp_path / "a" / FILE).read_bytes() == (tmp_path / "b" / FILE).read_bytes()
    assert all(map(torch.equal, net.state_dict().values(), same.state_dict().values()))


def change_weight_by_one_ulp(net: Net, index: int) -> None:
    """Change one weight in its last place before the fourth step."""
    if index == 3:
        with torch.no_grad():
            net.head.weight.view(torch.int32)[0, 1] += 1


def change_learning_rate(net: Net, index: int) -> None:
    if index == 3:
        net.trainer.optimizers[0].param_groups[0]["lr"] = 0.2


def draw_random_number(net: Net, index: int) -> None:
    """Draw one extra random number before the fourth step."""
    del net
    if index == 3:
        torch.rand(1)


@pytest.mark.parametrize("integers", [None, DeviceIntegers()])
@pytest.mark.parametrize(
    ("meddle", "streams"),
    [
        (draw_random_number, {Stream.RANDOM}),
        (change_learning_rate, {Stream.SCHEDULE}),
        (change_weight_by_one_ulp, {Stream.FORWARD, Stream.BACKWARD, Stream.WEIGHTS}),
    ],
)
def test_a_disturbance_is_found_at_its_step_and_stream(
    tmp_path: Path, meddle: Callable[[Net, int], None], streams: set[Stream], integers: HostIntegers | None
) -> None:
    found = first_difference(
        train_and_trace(tmp_path / "a", integers=integers)[0],
        train_and_trace(tmp_path / "b", meddle, integers=integers)[0],
    )
    assert found is not None
    assert found.step == 4
    assert found.stream in streams


def test_a_full_trace_names_the_first_gradient_that_differs(tmp_path: Path) -> None:

    def turned(net: Net, index: int) -> None:
        if index == 3:
            net.head.bias.register_hook(lambda gradient: -gradient)  # type: ignore[no-untyped-call]

    found = first_difference(
        train_and_trace(tmp_path / "a", full=True)[0], train_and_trace(tmp_path / "b", turned, full=True)[0]
    )
    assert found is not None
    assert (found.step, found.stream, found.tensor) == (4, Stream.BACKWARD, "head.bias")


def test_the_gradient_norm_equals_torchs() -> None:
    given = [torch.randn(3), torch.randn(1000, 320), torch.randn(7, 7)]
    assert torch.equal(norm_of(given), torch.nn.utils.get_total_norm(given))
    assert norm_of([]) == 0.0


class SparseNet(Net):
    def __init__(self) -> None:
        super().__init__(lambda *_: None)
        self.words = nn.Embedding(10, 3, sparse=True)

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        found: Tensor = self.words(torch.full((len(batch),), index)).square().mean()
        return found


@pytest.mark.parametrize("full", [False, True])
def test_sparse_gradients_are_traced(tmp_path: Path, full: bool) -> None:  # noqa: FBT001 - pytest passes it by name
    net = SparseNet()
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    loader: DataLoader[Any] = DataLoader(torch.randn(12, 3), batch_size=2)  # type: ignore[arg-type]
    options: dict[str, Any] = {"max_epochs": 1, "accelerator": "cpu", **quiet}
    L.Trainer(**options, callbacks=[Tracer(tmp_path, full=full)]).fit(net, loader)
    steps = [entry for entry in read_trace(tmp_path / FILE).entries() if isinstance(entry, Step)]
    assert all(numbers_of(step.gradient)[0] > 0 for step in steps)
    assert len(steps) == 6
