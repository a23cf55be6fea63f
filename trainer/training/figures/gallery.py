"""Writes `figures.json`, its pictures, and `samples.png` of the dataset to the folder of a run.

A figure that fails does not end the run: the failure is reported.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final

from lightning.pytorch.callbacks import Callback

from trainer.runs.figure import FILE, Figure, Figures, PictureFigure
from trainer.training.atomic_write import write_whole
from trainer.training.figures.picture import picture_of_samples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import lightning as L

    from trainer.data.declaration import Dataset
    from trainer.training.readers import Samples
    from trainer.training.tasks.task import Task

SAMPLES: Final = "samples.png"


class Gallery(Callback):
    """Writes the figures at the end of a test, on the first rank only."""

    def __init__(self, folder: Path, say: Callable[[str], None], *, dataset: Dataset, samples: Samples) -> None:
        self.folder, self.say = folder, say
        self.dataset, self.samples = dataset, samples
        self.files: dict[str, bytes] = {}

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write all figures, with the net on its device."""
        net: Task = pl_module  # type: ignore[assignment] # only runs that train a `Task` have a gallery
        for rows in net.kept.values():
            rows.compute()  # type: ignore[operator]
        if not trainer.is_global_zero:
            return
        figures = [*self._made(net.figures, "figures"), *self._made(self._sampled, SAMPLES)]
        for name, body in (net.pictures | self.files).items():
            write_whole(self.folder / name, body)
        write_whole(self.folder / FILE, Figures(figures=tuple(figures)).to_json())

    def _made(self, make: Callable[[], list[Figure]], what: str) -> list[Figure]:
        """Return the figures. Report an exception in one line with its location instead of raising it: the run itself has succeeded."""
        try:
            return list(Figures(figures=tuple(make())).figures)
        except Exception as fault:  # noqa: BLE001 - an experiment's figures can raise any exception
            at = traceback.extract_tb(fault.__traceback__)[-1]
            place = f"{at.filename.rpartition('/')[2]}:{at.lineno}"
            message = str(fault).strip().partition("\n")[0]
            self.say(f"{what} left out: {place} raised {type(fault).__name__}: {message}")
            return []

    def _sampled(self) -> list[Figure]:
        title = f"Samples of {self.dataset.title}"
        self.files[SAMPLES] = picture_of_samples(self.dataset, self.samples)
        return [PictureFigure(name="samples", title=title, split=None, file=SAMPLES)]
