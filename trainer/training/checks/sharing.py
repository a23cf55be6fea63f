"""The check of whether several devices can share the batches of a training run: it trains with two shards in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from torch.nn.modules.batchnorm import _NormBase

from trainer.base.errors import ExperimentError, SettingError
from trainer.training.check_result import CheckNote, NothingToCheck
from trainer.training.checks.saved_weights import train_few
from trainer.training.shards.fully_sharded import unsuitable

if TYPE_CHECKING:
    from trainer.training.checks.subject import Trial

_STEPS: Final = 2


def sharing(trial: Trial) -> str:
    """Train two steps with two shards. Raise `CheckNote` if the net trains on one device only."""
    size = min(trial.batch_size, len(trial.rows["train"])) // 2 * 2
    if not size:
        raise NothingToCheck("a batch of one sample cannot be divided into shards")
    try:
        train_few(trial, "shards", shards=2, batch_size=size, max_steps=_STEPS, checkpoint_every=None, monitor=None)
    except (SettingError, ExperimentError) as fault:
        raise CheckNote(f"this net trains on one device only: {fault.message}") from fault
    layers = [name for name, each in trial.fresh().named_modules() if isinstance(each, _NormBase)]
    own = f"; {layers[0]} normalizes with the statistics of a shard" if layers else ""
    why = unsuitable(trial.fresh())
    fsdp = (
        f"; not with --strategy fsdp: {why}"
        if why
        else "; with --strategy fsdp the result depends on the number of devices"
    )
    return f"{_STEPS} steps with 2 shards{own}{fsdp}"
