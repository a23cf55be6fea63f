"""The rejection of nets, data modules and callbacks that do not support shards: they change a step or use its whole batch."""

from __future__ import annotations

import dis
import inspect
from typing import TYPE_CHECKING, Any, Final

import lightning as L
from lightning.pytorch.utilities.model_helpers import is_overridden

from trainer.base.errors import SettingError
from trainer.training.shards.merged_metrics import ALONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lightning.pytorch.callbacks import Callback

_TRANSFERS: Final = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
_BATCHES: Final = ("on_train_batch_start", "on_train_batch_end")
_KNOWN: Final = ("lightning", "trainer")
"""Packages whose callbacks do not use the batch, or support shards."""
_BASES: Final = (L.LightningModule, L.LightningDataModule, L.Callback)


def require_sharded(part: L.LightningModule | L.LightningDataModule, *, shards: int) -> None:
    """Raise `SettingError` if a net or data module does not support shards."""
    if (why := next(_reasons(part), None)) is not None:
        message = f"a batch has {shards} shards, but {type(part).__name__} {why}"
        raise SettingError(message, hint=ALONE)


def require_sharded_callbacks(callbacks: Iterable[Callback], *, shards: int) -> None:
    """Raise `SettingError` if an experiment's callback uses the batch, which would be a tuple of shards."""
    for each in callbacks:
        if type(each).__module__.partition(".")[0] in _KNOWN:
            continue
        if (name := next(_hooks_that_use_the_batch(each), None)) is not None:
            message = f"a batch has {shards} shards, but {type(each).__name__} uses the batch in `{name}`"
            raise SettingError(message, hint=ALONE)


def _reasons(part: Any) -> Iterator[str]:
    if isinstance(part, L.LightningModule):
        if not part.automatic_optimization:
            yield "optimizes manually: its steps cannot be summed over shards"
        if hook := next((name for name in ("backward", "optimizer_zero_grad") if is_overridden(name, part)), None):
            yield f"overrides `{hook}`: its steps cannot be summed over shards"
        if "dataloader_iter" in inspect.signature(part.training_step).parameters:
            yield "reads the batches itself, from `dataloader_iter`"
    if hook := next((name for name in _TRANSFERS if is_overridden(name, part)), None):
        yield f"overrides `{hook}`, which gets a whole batch"
    if hook := next(_hooks_that_use_the_batch(part), None):
        yield f"uses the batch in `{hook}`"


def _hooks_that_use_the_batch(part: Any) -> Iterator[str]:
    """Yield the overridden hooks before and after a step whose code reads the batch, a parameter that is found by its position."""
    base = next(each for each in _BASES if isinstance(part, each))
    for name in _BATCHES:
        hook = getattr(type(part), name, None)
        if hook is None or hook is getattr(base, name, None):
            continue
        before = 1 + 2 * (base is L.Callback) + (name == "on_train_batch_end")  # self, trainer and module, outputs
        code = inspect.unwrap(hook).__code__
        names = code.co_varnames[: code.co_argcount]
        read = {each.argval for each in dis.get_instructions(code) if each.opname.startswith("LOAD_")}
        if (names[before] if len(names) > before else "args") in read:
            yield name
