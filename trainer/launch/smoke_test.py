"""The smoke test of an image: a self-test of its integrity code, then two training runs of ten steps, which must produce equal weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.base.document import Count, Document, parse_json
from trainer.base.errors import DeviceError, NotDeterministicError
from trainer.runs.run import load_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trainer.runs.record import Record

SELF_TEST: Final = ("_self_test",)
STEPS: Final = 10
WORDS: Final = (
    "--exp",
    "digits",
    "--max-steps",
    str(STEPS),
    "--publish",
    "false",
    "--tensorboard",
    "false",
    "--progress",
    "false",
)


class Counts(Document):
    """The numbers of inputs that the integrity code accepted and rejected in the self-test."""

    accepted: Count
    rejected: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeResult:
    """The result of a smoke test."""

    image: str
    known: str
    device: str
    torch: str
    steps: int
    weights: str
    accepted: int
    """The number of valid inputs in the self-test, all of which were accepted."""
    rejected: int
    """The number of damaged inputs in the self-test, all of which were rejected."""


def smoke_test(run: Callable[[Sequence[str]], str], *, runs: Path, expects_gpu: bool) -> SmokeResult:
    """Run the smoke test. `run` executes a command that writes to the folder `runs` and returns the command's output.

    Raise `DeviceError` if a GPU is expected but the runs used the CPU, `NotDeterministicError` if the weights differ.
    """
    counts = parse_json(run(SELF_TEST).encode(), Counts, where="the self-test of the image")
    for _ in range(2):
        run(WORDS)
    first, second = (load_record(path) for path in sorted(runs.glob("*/attempts/1/record.json")))
    if expects_gpu and first.ingredients.device.accelerator != "cuda":
        raise DeviceError(
            "the image had access to the GPUs of this machine but trained on the CPU", hint="reprise doctor"
        )
    if first.outcome.weights is None or first.outcome.weights != second.outcome.weights:
        weights = f"{first.outcome.weights} and {second.outcome.weights}"
        message = f"two runs of {STEPS} steps produced the weights {weights}; expected equal weights"
        raise NotDeterministicError(message, hint="docs/how-to/environments.md describes the variables of an image")
    image = first.circumstances.image
    return SmokeResult(
        image=image.reference or "unknown",
        known=image.known,
        device=_device(first),
        torch=first.circumstances.inventory.distributions["torch"].version,
        steps=first.outcome.steps or 0,
        weights=first.outcome.weights,
        accepted=counts.accepted,
        rejected=counts.rejected,
    )


def _device(record: Record) -> str:
    host = record.circumstances.host
    return host.gpus[0].name if record.ingredients.device.accelerator == "cuda" and host.gpus else host.cpu
