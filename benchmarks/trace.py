"""What the trace costs a step: in one training, steps take turns at being traced, fully traced and not traced at all.

Steps of each kind lie side by side, so that whatever else the machine does meets them all. Times are of whole steps, from the beginning of
a batch to the beginning of the next. Needs torch: the development environment, or an image.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if find_spec("torch") is None:
    python = ROOT / ".venv/bin/python"
    os.execv(python, [str(python), *sys.argv])  # noqa: S606 - no shell is wanted
sys.path.insert(0, str(ROOT))

import lightning as L  # noqa: E402 - a Python that has them may have to be found first
import torch  # noqa: E402
from lightning.pytorch.callbacks import Callback  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from trainer.training.trace import Tracer  # noqa: E402

KINDS = ("off", "on", "full")


class Turns(Callback):
    """Hands each step's hooks to the tracer whose turn it is, and times the step."""

    def __init__(self, folder: Path) -> None:
        """Trace into `folder`."""
        self.tracers = {kind: Tracer(folder / kind, full=kind == "full") for kind in KINDS[1:]}
        self.spent: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.began, self.turn = 0.0, 0
        for kind in self.tracers:
            (folder / kind).mkdir()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Have both begin their files."""
        for tracer in self.tracers.values():
            tracer.on_train_start(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End the last step's time, begin the next."""
        now = time.perf_counter()
        if batch_idx > 2 * len(KINDS):
            self.spent[KINDS[self.turn]].append(now - self.began)
        self.turn, self.began = batch_idx % len(KINDS), now
        if tracer := self.tracers.get(KINDS[self.turn]):
            tracer.before = trainer.global_step
            tracer.on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        """Hand it on."""
        if tracer := self.tracers.get(KINDS[self.turn]):
            tracer.on_before_optimizer_step(trainer, pl_module, optimizer)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        """Hand it on."""
        if tracer := self.tracers.get(KINDS[self.turn]):
            tracer.on_train_batch_end(trainer, pl_module, *rest)


class Net(L.LightningModule):
    """A body that gives numbers; the loss is their square."""

    def __init__(self, body: nn.Module) -> None:
        """Train `body`."""
        super().__init__()
        self.body = body

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Give a loss."""
        del index
        found: Tensor = self.body(batch[0]).square().mean()
        return found

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Step as most do."""
        return torch.optim.AdamW(self.parameters(), lr=1e-4, fused=True)


def transformer() -> tuple[nn.Module, Tensor]:
    """10 M parameters, and a batch of 16 sequences of 128."""
    layer = nn.TransformerEncoderLayer(320, 8, 1280, batch_first=True)
    return nn.TransformerEncoder(layer, 8, enable_nested_tensor=False), torch.randn(16, 128, 320)


def small() -> tuple[nn.Module, Tensor]:
    """The size of the digits experiment: two layers, and a batch of 32 images of 8x8."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), torch.randn(32, 64)


def measured(name: str, body: nn.Module, batch: Tensor, steps: int) -> list[str]:
    """The table's rows of one net."""
    net = Net(body)
    data: Any = DataLoader(
        torch.utils.data.TensorDataset(batch.repeat(steps, *[1] * (batch.dim() - 1))), batch_size=len(batch)
    )
    with tempfile.TemporaryDirectory() as folder:
        turns = Turns(Path(folder))
        quiet: dict[str, Any] = dict.fromkeys(
            ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
        )
        L.Trainer(max_epochs=1, accelerator="cpu", callbacks=[turns], **quiet).fit(net, data)
        written = (Path(folder) / "on/trace.jsonl").read_bytes().splitlines()
    parameters = sum(value.numel() for value in net.parameters())
    tensors = len(list(net.parameters()))
    base = statistics.median(turns.spent["off"])
    return [
        f"| {name}, {parameters / 1e6:.2f} M parameters, {tensors} tensors | {kind} | {len(turns.spent[kind])} "
        f"| {statistics.median(turns.spent[kind]) * 1e3:.2f} ms | {statistics.median(turns.spent[kind]) / base - 1:+.1%} "
        f"| {len(written[-1]) if kind == 'on' else ''} |"
        for kind in KINDS
    ]


def main(rounds: int) -> None:
    """Print the table."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(2)
    rows = measured("transformer", *transformer(), rounds * len(KINDS))
    rows += measured("small net", *small(), 50 * rounds * len(KINDS))
    head = "| net | trace | steps | median step | over no trace | bytes a step |\n| --- | --- | ---: | ---: | ---: | ---: |"
    print("\n".join([head, *rows]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
