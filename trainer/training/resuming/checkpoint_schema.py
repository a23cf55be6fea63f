"""The required contents of a checkpoint, for resuming a run and for serving its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DigestMismatchError, DocumentError
from trainer.runs.checkpoint_pointer import NextStage

if TYPE_CHECKING:
    from collections.abc import Mapping

    import lightning as L

_SCHEMA: Final = {
    "epoch": int,
    "global_step": int,
    "pytorch-lightning_version": str,
    "state_dict": dict,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "reprise": dict,
}
"""The keys that Lightning reads from a checkpoint, and the key that `Checkpoints` adds."""
_PLACE: Final = {
    "run": str,
    "step": int,
    "epoch": int,
    "batch": int,
    "stage": NextStage,
    "results": dict,
    "best_value": float,
    "averages": dict,
}


def require_whole(checkpoint: Mapping[str, Any], *, run: str) -> None:
    """Raise `DocumentError` if a checkpoint lacks a value needed for resuming, `DigestMismatchError` if it is of another run."""
    _require_types(checkpoint, _SCHEMA, where="the checkpoint")
    _require_types(checkpoint["reprise"], _PLACE, where="the checkpoint, reprise")
    if checkpoint["reprise"]["run"] != run:
        raise DigestMismatchError(f"the checkpoint is not one of run {run}", hint="pull the run again")


def _require_types(found: Mapping[str, Any], expected: Mapping[str, type], *, where: str) -> None:
    for key, kind in expected.items():
        if key not in found:
            raise DocumentError(f"{where}: key {key!r} is missing", hint="use another checkpoint")
        if not isinstance(found[key], kind):
            said = f"{where}: {key} is a {type(found[key]).__name__}; expected a {kind.__name__}"
            raise DocumentError(said, hint="use another checkpoint")


def require_servable(checkpoint: Mapping[str, Any], net: L.LightningModule, *, run: str) -> None:
    """Raise `DocumentError` or `DigestMismatchError` unless a checkpoint of the run has this net's weights by name and shape."""
    require_whole(checkpoint, run=run)
    theirs, ours = (
        {name: tuple(getattr(value, "shape", ())) for name, value in state.items()}
        for state in (checkpoint["state_dict"], net.state_dict())
    )
    if odd := sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)):
        shapes = f"found {theirs.get(odd[0], 'nothing')}, expected {ours.get(odd[0], 'nothing')}"
        raise DocumentError(
            f"the best checkpoint is not of this net: {odd[0]}: {shapes}", hint="use another checkpoint"
        )
