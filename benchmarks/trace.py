"""Measures the cost of the trace per step: one run alternates traced, fully traced and untraced steps.

Traced and untraced steps are adjacent, in balanced order; the result is the median of the ratios of the pairs. Times are of whole steps,
from the beginning of a batch to the beginning of the next. The time in calls of the tracer is also shown; it excludes indirect costs.
Needs torch: the development environment, or an image.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dev_python import require

ROOT = Path(__file__).resolve().parent.parent
require("torch")
sys.path.insert(0, str(ROOT))
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # as in a run: threads that wait sleep

import lightning as L  # noqa: E402 - a Python that has the libraries may have to be found first
import torch  # noqa: E402
from lightning.pytorch.callbacks import Callback  # noqa: E402
from nets import NETS, Net, described  # noqa: E402
from pairs import shown  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from trainer.training.fit import quieten  # noqa: E402
from trainer.training.tracing.trace import Tracer  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

ROUND = ("off", "on", "full", "on", "off")
"""Kinds of steps in a round: each `on` and `full` is compared with an `off` of the same round."""
ROUNDS = {"transformer": 3, "small net": 100}
"""The factor for the number of rounds of a net: enough for a significant difference."""
WARM = 2


class Turns(Callback):
    """Passes the hooks of each step to the current tracer, and times the step."""

    def __init__(self, folder: Path) -> None:
        """Trace into `folder`."""
        self.tracers = {kind: Tracer(folder / kind, full=kind == "full") for kind in ("on", "full")}
        self.steps: list[tuple[str, float, float]] = []
        self.kind, self.began, self.inside = "", 0.0, 0.0
        for kind in self.tracers:
            (folder / kind).mkdir()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the files of both tracers."""
        for tracer in self.tracers.values():
            tracer.on_train_start(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End the timing of the last step and begin the next."""
        now = time.perf_counter()
        if batch_idx:
            self.steps.append((self.kind, now - self.began, self.inside))
        self.kind, self.began, self.inside = ROUND[batch_idx % len(ROUND)], now, 0.0
        if tracer := self.tracers.get(self.kind):
            tracer.before = trainer.global_step
            self._timed(tracer.on_train_batch_start, trainer, pl_module, batch, batch_idx)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        """Pass the hook to the current tracer."""
        if tracer := self.tracers.get(self.kind):
            self._timed(tracer.on_before_optimizer_step, trainer, pl_module, optimizer)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        """Pass the hook to the current tracer."""
        if tracer := self.tracers.get(self.kind):
            self._timed(tracer.on_train_batch_end, trainer, pl_module, *rest)

    def _timed(self, call: Callable[..., None], *given: Any) -> None:
        began = time.perf_counter()
        call(*given)
        self.inside += time.perf_counter() - began

    def spent(self, kind: str) -> tuple[list[float], list[float], list[float]]:
        """Return, for a kind, the times of its steps, the tracer time in each, and the times of the adjacent untraced steps."""
        mine: list[tuple[float, float, float]] = []
        for start in range(WARM * len(ROUND), len(self.steps) - len(ROUND) + 1, len(ROUND)):
            before, *taken, after = self.steps[start : start + len(ROUND)]
            beside = (before, before, after)
            mine += [
                (whole, inside, off[1]) for (own, whole, inside), off in zip(taken, beside, strict=True) if own == kind
            ]
        return [one[0] for one in mine], [one[1] for one in mine], [one[2] for one in mine]


def measured(name: str, rounds: int) -> list[str]:
    """Return the table rows of a net."""
    body, batch = NETS[name]()
    net, steps = Net(body), (WARM + rounds) * len(ROUND) + 1
    data: Any = DataLoader(TensorDataset(batch.repeat(steps, *[1] * (batch.dim() - 1))), batch_size=len(batch))
    with tempfile.TemporaryDirectory() as folder:
        turns = Turns(Path(folder))
        quiet: dict[str, Any] = dict.fromkeys(
            ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
        )
        L.Trainer(max_epochs=1, accelerator="cpu", callbacks=[turns], **quiet).fit(net, data)
        written = {kind: (Path(folder) / kind / "trace.jsonl").read_bytes().splitlines() for kind in turns.tracers}
    return [row(described(name, net), kind, turns, len(written[kind][-1])) for kind in turns.tracers]


def row(net: str, kind: str, turns: Turns, size: int) -> str:
    """Return the table row of a kind of steps."""
    whole, inside, beside = turns.spent(kind)
    off, own = statistics.median(beside) * 1e3, statistics.median(inside) * 1e3
    return f"| {net} | {kind} | {len(whole)} | {off:.2f} ms | {shown(whole, beside)} | {own:.3f} ms, {own / off:.1%} | {size} |"


def main(rounds: int) -> None:
    """Print the table."""
    warnings.filterwarnings("ignore")
    quieten()
    torch.set_num_threads(2)
    print(
        "| net | trace | pairs | step without | over it, with 95 % interval | the tracer's own calls | bytes a step |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name, times in ROUNDS.items():
        print(*measured(name, rounds * times), sep="\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
