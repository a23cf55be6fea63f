"""The verification task: decide whether two samples are of the same class by the distance of their embeddings (metric learning).

The classes of the test split may differ from the classes of the training split. The task never takes a square root, because torch's square
root differs between CPUs in its last bit.

Both samples of a pair are from one split. The same class and another class are equally likely, if both exist. In training, the second
sample depends on the run's seed, the epoch and the first sample's number; in other splits only on the split's name and the number, so that
all runs are measured on the same pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAccuracy

from trainer.base.errors import DatasetError
from trainer.base.suggestions import all_are
from trainer.data.splits import select
from trainer.runs.figure import PictureFigure
from trainer.settings.ledger import configured
from trainer.training.determinism.seeds import derived
from trainer.training.figures.charts import histogram, roc
from trainer.training.figures.picture import PictureRow, drawn, is_picture
from trainer.training.readers import Pick, Samples
from trainer.training.settings import VerificationSettings
from trainer.training.tasks.metrics import Area, EqualErrorRate, OutputRows
from trainer.training.tasks.outputs import described, require_float, whole
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.data.cache.streamed import StreamedDataset
    from trainer.data.declaration import Dataset
    from trainer.data.files import Files
    from trainer.data.inspection import Inspection, SplitValues
    from trainer.data.splits import Layout
    from trainer.runs.figure import Figure
    from trainer.training.readers import Batch, Sample
    from trainer.training.readers.samples import Piece, Rows, SampleBlock

__all__ = ["VerificationSettings", "Verifier"]

_WORST: Final = 16
_KIND: Final = "set --target-field to the field of the class number"


class Verifier(Task):
    """A net whose `forward` returns an embedding of each sample, float `[batch, any]`; labels are integers, `[batch]`.

    A batch holds pairs of neighbors: samples 0 and 1, samples 2 and 3; `batch_size` counts pairs. Metrics: area under the ROC curve, equal
    error rate, accuracy at the loss's own threshold. Figures: ROC curve, distances of pairs, the pairs with the largest error.
    """

    def samples(self, declared: Dataset, files: Files) -> Samples:
        """Open the samples with the reader that the dataset declares, in pairs."""
        return Pairs(super().samples(declared, files), declared)

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the contrastive loss."""
        return contrastive()

    def make_metrics(self) -> MetricCollection:
        """Return the area under the ROC curve, the equal error rate and the accuracy."""
        return measures()

    def check_batch(self, given: Tensor, wanted: Tensor) -> None:
        """Raise `DatasetError` if the labels are not integers, `[batch]`."""
        del given
        if whole(wanted).dtype != torch.int64 or wanted.ndim != 1:
            raise DatasetError(f"labels are {described(wanted)}; a verification expects integers, [batch]", hint=_KIND)

    def check_values(self, seen: Inspection) -> list[str]:
        """Note a training split whose pairs are all of the same class, or all of different classes."""
        why = _one_kind_of_pairs(seen.splits.get("train"), self._used[-1])
        return [f"split train: {why}: nothing can be learned from it"] if why else []

    def undefined_on(self, seen: SplitValues) -> dict[str, str]:
        """Return AUC and EER, with the reason, if the split lacks pairs of the same class or pairs of different classes."""
        why = _one_kind_of_pairs(seen, self._used[-1])
        return dict.fromkeys(("auc", "eer"), why) if why else {}

    def check_output(self, predicted: Tensor, wanted: Tensor) -> None:
        """Raise `ExperimentError` if the output is not one embedding per sample."""
        require_float(self, predicted, (len(wanted), None), is_="an embedding of each sample")

    def metric_inputs(self, predicted: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Return the similarity of each pair, from 0 to 1, and whether its samples are of the same class: `[pairs]` each."""
        return nearness(predicted), same(wanted)

    def counted(self, wanted: Tensor) -> int:
        """Return the number of pairs."""
        return len(wanted) // 2

    def make_output_buffers(self) -> dict[str, OutputRows]:
        """Return buffers for the similarity of each pair and for the pairs with the largest error."""
        return {
            "pairs": OutputRows("near", "same"),
            "worst": OutputRows("loss", "given", "same", by="loss", most=_WORST),
        }

    def record_outputs(self, given: Tensor, predicted: Tensor, wanted: Tensor) -> None:
        """Store the outputs of a batch that the figures need."""
        near, equal = nearness(predicted.float()), same(wanted)
        self.kept["pairs"].update(near=near, same=equal)  # type: ignore[operator]
        if is_picture(given[0]):
            loss = torch.where(equal == 1, 1 - near, near)
            self.kept["worst"].update(loss=loss, given=torch.cat([given[0::2], given[1::2]], dim=-1), same=equal)  # type: ignore[operator]

    def figures(self) -> list[Figure]:
        """Return the ROC curve, the distances of the pairs and the pairs with the largest error."""
        found: dict[str, Tensor] = self.kept["pairs"].columns()  # type: ignore[operator]
        if not found:
            return []
        near, equal = found["near"].double(), found["same"]
        apart = {name: (1 / near - 1)[equal == value] for name, value in (("same", 1), ("not the same", 0))}
        shown = [
            roc({"same": (near, equal)}, title="ROC of the pairs"),
            histogram("distances", "Distances of pairs", "squared distance", apart),
            self._worst(),
        ]
        return [figure for figure in shown if figure is not None]

    def _worst(self) -> Figure | None:
        worst: dict[str, Tensor] = self.kept["worst"].columns()  # type: ignore[operator]
        if not worst:
            return None
        captions = ["same, but far apart" if equal else "different, but near" for equal in worst["same"].tolist()]
        title = "Worst pairs: same and farthest apart, or different and nearest"
        self.pictures["most-wrong.png"] = drawn(
            PictureRow.several(title, [{"image": each} for each in worst["given"]], captions)
        )
        return PictureFigure(name="most-wrong", title=title, file="most-wrong.png", captions=tuple(captions))


def _one_kind_of_pairs(seen: SplitValues | None, field: str) -> str:
    """Return why all pairs of a split are of the same class or all of different classes; empty if neither is known."""
    values = seen.fields.get(field) if seen else None
    kinds = values.values or () if values else ()
    if seen and kinds and seen.samples == 1:
        return "there is one sample, and so one pair"
    if len(kinds) == 1:
        return f"{all_are(kinds[0].count, 'sample')} of class {kinds[0].value}, so no pair differs"
    if seen and kinds and len(kinds) == seen.samples:
        return f"each of the {seen.samples:,} samples has its own class, so no pair is of one class"
    return ""


def squared_distance(embeddings: Tensor) -> Tensor:
    """Return the squared distance of the embeddings of each pair: `[2 * pairs, any]` to `[pairs]`."""
    return (embeddings[0::2] - embeddings[1::2]).square().sum(dim=1)


def nearness(embeddings: Tensor) -> Tensor:
    """Return the similarity of each pair, `[pairs]`: 1 for equal embeddings, towards 0 with growing distance."""
    return 1 / (1 + squared_distance(embeddings))


def same(labels: Tensor) -> Tensor:
    """Return 1 for each pair whose samples are of the same class, else 0: `[pairs]`, int64."""
    return (labels[0::2] == labels[1::2]).long()


class Contrastive(nn.Module):
    """Contrastive loss: pulls pairs of one class together, pushes others to a squared distance of `margin` (Hadsell et al., 2006)."""

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the pairs."""
        apart = squared_distance(embeddings)
        return torch.where(same(labels) == 1, apart, F.relu(self.margin - apart)).mean()


@configured
def contrastive(*, margin: float) -> Contrastive:
    """Return the contrastive loss of embeddings `[2 * pairs, any]` and labels `[2 * pairs]`: the mean over the pairs."""
    return Contrastive(margin)


@configured
def measures(*, margin: float) -> MetricCollection:
    """Return AUC and EER over all thresholds, and the accuracy if pairs within half the margin count as the same class."""
    middle = 1 / (1 + margin / 2)
    return MetricCollection({"auc": Area(), "eer": EqualErrorRate(), "accuracy": BinaryAccuracy(threshold=middle)})


class Pairs(Samples):
    """One pair per sample. A batch of pairs holds twice as many samples: the samples of a pair are neighbors."""

    def __init__(self, singles: Samples, declared: Dataset) -> None:
        """Pair the samples of each split. Raise `DatasetError` if the reader does not return the classes."""
        self.singles = singles
        self._classes: dict[str, _Classes] = {}
        self._split = np.full(len(singles), -1, dtype=np.int8)
        for number, name in enumerate(declared.splits):
            rows = select(name, declared.splits, singles.layout, dataset=declared.name)
            labels = singles.labels(rows)
            if labels is None:
                message = f"the reader of {declared.title} returns no classes without reading whole samples"
                raise DatasetError(
                    message, hint="pairs need the readers `arrays` with one field of integers, or `images`"
                )
            self._classes[name] = _Classes(rows, labels)
            self._split[np.asarray(rows, dtype=np.int64)] = number

    def __len__(self) -> int:
        return len(self.singles)

    def sample(self, pick: Pick) -> Sample:
        """Return the first sample of a pair."""
        return self.singles.sample(pick)

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Return both samples of each pair, one after the other: `[2 * pairs, ...]`."""
        return self.singles.batch([each for pick in picks for each in (pick, self.second(pick))])

    @property
    def streamed(self) -> Sequence[StreamedDataset]:
        """Return the datasets of the wrapped reader whose files are fetched during training."""
        return self.singles.streamed

    def pieces(self, pick: Pick) -> Sequence[Piece]:
        """Return the ranges of both samples of a pair."""
        return [*self.singles.pieces(pick), *self.singles.pieces(self.second(pick))]

    def stack(self, samples: Sequence[Sample]) -> Batch:
        """Return samples of pairs as a batch, as the wrapped reader does."""
        return self.singles.stack(samples)

    @property
    def holds_values(self) -> bool:
        """Whether an inspection examines the values of the wrapped reader."""
        return self.singles.holds_values

    def blocks(self, rows: Rows) -> Iterator[SampleBlock]:
        """Return the blocks of the single samples: each sample is read once."""
        return self.singles.blocks(rows)

    def second(self, pick: Pick) -> Pick:
        """Return the second sample of a pair. A sample without a split, or alone in its split, is paired with itself."""
        number = int(self._split[pick.index])
        if number < 0:
            return pick
        name = list(self._classes)[number]
        place = (pick.run, "pair", pick.epoch) if name == "train" else (0, "pair", name)
        index = self._classes[name].other(pick.index, derived(*place, pick.index))
        return Pick(index=index, epoch=pick.epoch, run=pick.run)

    @property
    def layout(self) -> Layout:
        """The layout of the single samples."""
        return self.singles.layout

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.singles.classes

    def labels(self, rows: Sequence[int]) -> Sequence[int] | None:
        """Return the class numbers of the single samples `rows`; None if only reading whole samples can find them."""
        return self.singles.labels(rows)


class _Classes:
    """The samples of a split, sorted by class."""

    def __init__(self, rows: Sequence[int], labels: Sequence[int]) -> None:
        kinds = np.asarray(labels, dtype=np.int64)
        order = np.argsort(kinds, kind="stable")
        self.rows = np.asarray(rows, dtype=np.int64)[order]
        self.kinds = kinds[order]
        self.by_number = np.argsort(self.rows, kind="stable")

    def other(self, index: int, seed: int) -> int:
        """Return another sample, drawn by `seed`: the last bit selects the same or another class, if both exist; else `index`."""
        at = int(self.by_number[np.searchsorted(self.rows, index, sorter=self.by_number)])
        first, end = (int(np.searchsorted(self.kinds, self.kinds[at], side=side)) for side in ("left", "right"))
        same, others = end - first - 1, len(self.rows) - (end - first)
        number = seed >> 1
        if same and (seed & 1 or not others):
            chosen = first + number % same
            return int(self.rows[chosen + (chosen >= at)])
        if not others:
            return index
        chosen = number % others
        return int(self.rows[chosen if chosen < first else chosen + (end - first)])
