"""Training loops without Reprise, with the same nets and amount of data: in plain torch, and in plain Lightning.

For `scripts/bench overhead`: `overhead_bare.py torch|lightning transformer|small`. With BENCH_CPU, the number of a processor, the process
keeps to it and counts its processor time, with all its threads; otherwise the time is that of the clock.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from itertools import islice
from time import perf_counter, process_time
from typing import Any

import lightning as L
import torch
from bodies import BATCH, BODIES, STEPS
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

if cpu := os.environ.get("BENCH_CPU"):
    os.sched_setaffinity(0, {int(cpu)})
clock = process_time if cpu else perf_counter


class Net(L.LightningModule):
    """A body with two clock readings."""

    def __init__(self, name: str) -> None:
        """Create the net."""
        super().__init__()
        self.body = BODIES[name]()
        self.warm, self.timed = STEPS[name]
        self.began = 0.0

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Return the cross entropy of a batch."""
        images, labels = batch
        return nn.functional.cross_entropy(self.body(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer that Reprise uses."""
        return torch.optim.AdamW(self.parameters(), lr=1e-4, fused=True)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the random samples."""
        return samples()

    def on_train_batch_start(self, *_: Any) -> None:
        """Read the clock after the warm-up and at the end."""
        if self.global_step == self.warm:
            self.began = clock()
        if self.global_step == self.warm + self.timed:
            print_time((clock() - self.began) / self.timed)


def samples() -> DataLoader[Any]:
    """Return the loader of random samples, as many as the digits."""
    return DataLoader(
        TensorDataset(torch.rand(1437, 1, 8, 8), torch.randint(10, (1437,))), batch_size=BATCH, shuffle=True
    )


def print_time(seconds: float) -> None:
    """Print the seconds per step."""
    sys.stdout.write(f"seconds a step: {seconds:.9f}\n")
    sys.stdout.flush()


def by_lightning(name: str) -> None:
    """Train with Lightning, without a logger, a progress bar or checkpoints."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
    )
    net = Net(name)
    steps = net.warm + net.timed + 1
    L.Trainer(max_steps=steps, accelerator="cpu", default_root_dir="/tmp", **quiet).fit(net)  # noqa: S108 - private to the container


def by_torch(name: str) -> None:
    """Train with a loop of six lines."""
    net = BODIES[name]()
    warm, counted = STEPS[name]
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    began = 0.0
    for step, (images, labels) in enumerate(islice(samples(), warm + counted)):
        if step == warm:
            began = perf_counter()
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call] # torch has no types here
        optimizer.step()
    print_time((perf_counter() - began) / counted)


if __name__ == "__main__":
    torch.set_num_threads(1 if cpu else 2)
    loop = {"torch": by_torch, "lightning": by_lightning}[sys.argv[1]]
    loop(sys.argv[2])
