r"""The sequence task: predict the next byte of a text from the bytes before it.

The target of a window (reader `text`) is the same window one byte later. For a line (reader `lines`), the input is "\n" and the line, and
the target is the line and "\n": the net learns where lines end, and how to begin a line.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric, MetricCollection

from trainer.base.errors import DatasetError
from trainer.runs.figure import Lines, Passage, Series
from trainer.settings.ledger import configured
from trainer.training.determinism.seeds import derived
from trainer.training.settings import SequenceSettings
from trainer.training.tasks.metrics import Accuracy, OutputRows
from trainer.training.tasks.outputs import described, odd_probabilities, require_float, whole
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.data.inspection import Inspection
    from trainer.runs.figure import Figure
    from trainer.training.readers import Batch

__all__ = ["BYTES", "SequenceModel", "SequenceSettings"]

BYTES: Final = 256
NOT_WANTED: Final = -100
"""The target after a line's end: the number that torch's cross entropy ignores."""
_NEWLINE: Final = 10
_GENERATED: Final = 240
"""Length in bytes of the generated text in the report."""


class SequenceModel(Task):
    """A net whose `forward` maps bytes, int64 `[batch, time]`, to scores of the next byte at each place, float `[batch, time, 256]`.

    A score must not depend on later bytes. `time` is at most `context`. Metrics: bits per byte, and accuracy. Figures: bits per byte at
    each place, and a text that the net generates.
    """

    causal = True

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the cross entropy over all bytes of the batch."""
        return next_byte_loss

    def make_metrics(self) -> MetricCollection:
        """Return bits per byte, and accuracy."""
        accuracy = Accuracy(num_classes=BYTES, average="micro", ignore_index=NOT_WANTED)
        return MetricCollection({"bits_per_byte": BitsPerByte(), "accuracy": accuracy})

    def used_fields(self) -> tuple[str, ...]:
        """Return the name of the text's field, from the setting `input_field`; its reader supplies the other fields."""
        field, self._context = text_settings()
        return (field,)

    def split_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the bytes, and the next byte of each: int64 `[batch, time]` each."""
        text = batch[self._used[0]]
        for name in (self._used[0], "next"):
            if name in batch and whole(batch[name]).dtype != torch.int64:
                message = f"field {name!r} is {described(batch[name])}; expected bytes, as integers"
                raise DatasetError(message, hint=_READ)
        if "next" in batch:
            given, wanted = text.long(), batch["next"].long()
        elif "length" in batch:
            given, wanted = of_lines(text.long(), batch["length"])
        else:
            raise DatasetError(
                "samples have neither `next` nor `length`; expected windows or lines of text", hint=_READ
            )
        return given[:, : self._context], wanted[:, : self._context]

    def check_batch(self, given: Tensor, wanted: Tensor) -> None:
        """Raise `DatasetError` if samples are not bytes."""
        del wanted
        if given.ndim != 2:  # noqa: PLR2004 - batch and time
            raise DatasetError(f"texts are {described(given)}; expected bytes [batch, time]", hint=_READ)
        if given.numel() and not 0 <= int(given.min()) <= int(given.max()) < BYTES:
            found = f"values from {int(given.min())} to {int(given.max())}"
            raise DatasetError(f"texts have {found}; expected bytes, 0 to {BYTES - 1}", hint=_READ)

    def check_values(self, seen: Inspection) -> list[str]:
        """Raise `DatasetError` if a split holds a value that is not a byte."""
        for split, values in seen.field(self._used[0]).items():
            for bound in filter(None, (values.low, values.high)):
                if not 0 <= bound.value < BYTES:
                    message = f"texts of split {split} hold {bound.value} (the first is in {bound.name})"
                    raise DatasetError(f"{message}; expected bytes, 0 to {BYTES - 1}", hint=_READ)
        return []

    def check_output(self, predicted: Tensor, wanted: Tensor) -> None:
        """Raise `ExperimentError` if the output is not one score for each byte at each place."""
        require_float(self, predicted, (*wanted.shape, BYTES), is_="a score of each byte, at each place")

    def describe_oddity(self, predicted: Tensor, wanted: Tensor) -> tuple[str, str] | None:
        """Report outputs that are probabilities: cross entropy applies the softmax itself."""
        del wanted
        return odd_probabilities(self, predicted, dim=-1) if self.loss is next_byte_loss else None

    def metric_inputs(self, predicted: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores and bytes of all places: `[places, 256]` and `[places]`."""
        return predicted.flatten(0, 1), wanted.flatten()

    def counted(self, wanted: Tensor) -> Tensor:
        """Return the number of target bytes."""
        return (wanted != NOT_WANTED).sum()

    def make_output_buffers(self) -> dict[str, OutputRows]:
        """Return a buffer for the bits of each batch's bytes at each place."""
        return {"places": OutputRows("bits", "count")}

    def record_outputs(self, given: Tensor, predicted: Tensor, wanted: Tensor) -> None:
        """Store sums over the batch, for every place up to `context`."""
        del given
        bits = costs(*self.metric_inputs(predicted, wanted)).reshape(wanted.shape) / math.log(2)
        missing = self._context - wanted.shape[1]
        count = (wanted != NOT_WANTED).double()
        sums = {"bits": bits.sum(dim=0), "count": count.sum(dim=0)}
        self.kept["places"].update(**{name: F.pad(row, (0, missing))[None] for name, row in sums.items()})  # type: ignore[operator]

    def figures(self) -> list[Figure]:
        """Return the bits per byte at each place, and a text that the net generates."""
        found: dict[str, Tensor] = self.kept["places"].columns()  # type: ignore[operator]
        if not found:
            return []
        bits, count = found["bits"].sum(dim=0), found["count"].sum(dim=0)
        at = [place for place in range(len(count)) if count[place] and torch.isfinite(bits[place])]
        line = Series(name="test", x=tuple(map(float, at)), y=tuple((bits[at] / count[at]).tolist()))
        labels = {"title": "Bits per byte at each place", "x_label": "bytes before", "y_label": "bits per byte"}
        text = generate_text(self, _GENERATED, context=self._context).decode(errors="replace")
        passage = Passage(name="written", title="What the net writes", text=text, split=None)
        return [Lines(name="places", series=(line,), **labels), passage]


_READ: Final = "its reader is to be `text` or `lines`"


def of_lines(text: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return input ("\n" and the line) and target (the line and "\n"), `[batch, longest + 1]`, of padded lines `[batch, longest]`."""
    places = torch.arange(text.shape[1] + 1, device=text.device)
    ends = lengths[:, None]
    wanted = torch.where(places == ends, _NEWLINE, F.pad(text, (0, 1)))
    return F.pad(text, (1, 0), value=_NEWLINE), wanted.masked_fill(places > ends, NOT_WANTED)


def costs(scores: Tensor, wanted: Tensor) -> Tensor:
    """Return the loss of each byte in nats, `[places]`, float64; 0 for places without a target."""
    return F.cross_entropy(scores.float(), wanted, ignore_index=NOT_WANTED, reduction="none").double()


def next_byte_loss(scores: Tensor, wanted: Tensor) -> Tensor:
    """Return the cross entropy of scores `[batch, time, 256]` and bytes `[batch, time]`: the mean over the bytes."""
    return F.cross_entropy(scores.flatten(0, 1), wanted.flatten(), ignore_index=NOT_WANTED)


def generate_text(net: Task, count: int, *, context: int) -> bytes:
    """Return `count` bytes that the net generates: sampled by its scores with a separate generator; each line starts with empty context."""
    generator = torch.Generator().manual_seed(derived(0, "written"))
    found = bytearray([_NEWLINE])
    for _ in range(count):
        line = found[found.rindex(_NEWLINE) :][-context:]
        scores = net(torch.tensor([list(line)], device=net.device))[0, -1]
        chances = scores.detach().cpu().double().softmax(dim=0).nan_to_num(1 / BYTES)
        found.append(int(torch.multinomial(chances, 1, generator=generator)))
    return bytes(found[1:])


class BitsPerByte(Metric):
    """The mean loss of a byte in bits: 8 for uniform predictions."""

    full_state_update = False
    undefined: str | None = None
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, wanted: Tensor) -> None:
        """Add places: scores `[places, 256]`, bytes `[places]`."""
        self.total += costs(scores, wanted).sum()
        self.count += (wanted != NOT_WANTED).sum()

    def compute(self) -> Tensor:
        """Return the mean."""
        self.undefined = None if int(self.count) else "there is no byte"
        return self.total / self.count / math.log(2)


@configured
def text_settings(*, input_field: str, context: int) -> tuple[str, int]:
    """Return the name of the text's field, and the largest number of bytes that a net receives."""
    return input_field, context
