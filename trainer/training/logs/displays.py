"""The progress display of a training run: a line for each epoch, and a bar on a terminal."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback, RichProgressBar

from trainer.runs.metric_text import metric_text
from trainer.settings.ledger import configured
from trainer.training.logs.losses import mean_loss_of
from trainer.training.results import is_plain, undefined_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import lightning as L
    from torch import Tensor

    Say = Callable[[str], None]


@configured
def displays(say: Say, *, on_terminal: bool, progress: bool) -> list[Callback]:
    """Return the progress display: lines for the epochs, and on a terminal a bar below them."""
    if not progress:
        return []
    lines = EpochLines(say)
    return [Bar(leave=False, console_kwargs={"stderr": True}), lines] if on_terminal else [lines]


class Bar(RichProgressBar):
    """Lightning's progress bar, with epochs counted from 1 and the training loss."""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Add the training loss to the bar, and format the numbers."""
        last = None if is_plain(pl_module) else mean_loss_of(pl_module).last
        shown = {**super().get_metrics(trainer, pl_module), **({} if last is None else {"train_loss": float(last)})}
        return {name: metric_text(value) if isinstance(value, float) else value for name, value in shown.items()}

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"


class EpochLines(Callback):
    """Prints one line per epoch."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.began = monotonic()
        """The time when this process started the epoch; a resumed epoch may have started earlier."""
        self.reported: set[tuple[str, str]] = set()
        """The undefined metrics that were reported, with the reason."""
        self.reported_early: set[str] = set()
        """The undefined metrics that were reported before the first step."""
        self.ended = ""
        """The line of the ended epoch without its metrics, until it is printed."""

    def on_train_start(self, _trainer: object, pl_module: L.LightningModule) -> None:
        """Store the undefined metrics that were reported before the first step."""
        self.reported_early.update(undefined_of(pl_module))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the results of the previous epoch of a plain module, and start the clock."""
        self._print_plain(trainer, pl_module)
        self.began = monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the results of the epoch; a plain module logs values of the epoch after this, in its own hook."""
        if not trainer.is_global_zero:
            return
        place = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  step {trainer.global_step}"
        self.ended = f"{place}  {{}}  ({monotonic() - self.began:.1f} s)"
        if not is_plain(pl_module):
            self._print(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the results of the last epoch of a plain module."""
        self._print_plain(trainer, pl_module)

    def _print_plain(self, trainer: L.Trainer, net: L.LightningModule) -> None:
        if self.ended and is_plain(net):
            self._print(trainer, net)

    def _print(self, trainer: L.Trainer, net: L.LightningModule) -> None:
        undefined, shows_all = undefined_of(net), is_plain(net)
        shown = {
            name: "undefined" if name in undefined else metric_text(value)
            for name, value in _numbers(trainer.callback_metrics).items()
            if shows_all or name.startswith(("train_loss_mean", "val_"))
        }
        metrics = "  ".join(
            f"{name.replace('train_loss_mean', 'train_loss')} {value}" for name, value in sorted(shown.items())
        )
        self.say(self.ended.format(metrics))
        self.ended = ""
        for name, why in undefined.items():
            if (name, why) not in self.reported and name not in self.reported_early:
                self.say(f"{name} is undefined: {why}")
        self.reported.update(undefined.items())
        self.reported_early.clear()


def _numbers(logged: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the logged numbers by name, without the copies of values that are logged for steps and for epochs."""
    copies = {f"{name}{ending}" for name in logged for ending in ("_step", "_epoch")}
    return {
        name: float(value)
        for name, value in logged.items()
        if value.numel() == 1 and not (name in copies and _is_copy(name, logged))
    }


def _is_copy(name: str, logged: Mapping[str, Tensor]) -> bool:
    """Return whether a name with an ending has the value of the name without it, which Lightning shows in its place."""
    return name.endswith("_step") or logged[name] is logged[name.removesuffix("_epoch")]
