r"""The sequence task: predict the next byte or token of a text from the previous ones.

The target of a window (reader `text`) is the same window one byte later. For a line (reader `lines`), the input is "\n" and the line, and
the target is the line and "\n": the net learns where lines end, and how to begin a line. Readers of tokens do the same with the end token
in place of "\n".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric, MetricCollection

from trainer.base.errors import DatasetError, SettingError
from trainer.data.reader import TextReader
from trainer.runs.figure import LineFigure, Series, TextFigure
from trainer.settings.ledger import call_configured, configured
from trainer.training.determinism.seeds import derived
from trainer.training.readers.samples import BYTES as BYTE_ALPHABET
from trainer.training.settings import SequenceSettings
from trainer.training.tasks.metrics import Accuracy, OutputRows
from trainer.training.tasks.outputs import described, odd_probabilities, require_float, whole
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.data.declaration import Dataset
    from trainer.data.files import Files
    from trainer.data.inspection import Inspection
    from trainer.runs.figure import Figure
    from trainer.training.readers import Batch, Samples

__all__ = ["BYTES", "SequenceModel", "SequenceSettings"]

BYTES: Final = BYTE_ALPHABET.size
NOT_WANTED: Final = -100
"""The target after a line's end: the number that torch's cross entropy ignores."""
_NEWLINE: Final = BYTE_ALPHABET.end
_GENERATED: Final = 240
"""Length in bytes or tokens of the generated text in the report."""


class SequenceModel(Task):
    """A net whose `forward` maps bytes, int64 `[batch, time]`, to scores of the next byte at each position, float `[batch, time, 256]`.

    With the setting `vocabulary` it maps tokens to scores of the next token, float `[batch, time, vocabulary]`; padding is neither in the
    loss nor in the metrics. A score must not depend on later positions. `time` is at most `context`. Metrics: bits per byte, or perplexity
    per token; and accuracy. Figures: bits at each position, and a text that the net generates.
    """

    causal = True
    _vocabulary: int | None = None

    def samples(self, declared: Dataset, files: Files) -> Samples:
        """Open the samples; raise `SettingError` if `vocabulary` or `context` is too small for the dataset's tokens or windows."""
        samples = super().samples(declared, files)
        call_configured(require_tokens, samples, declared.title)
        if isinstance(declared.reader, TextReader) and not declared.reader.tokens:
            call_configured(require_windows, declared.reader.window, declared.title)
        return samples

    def make_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the cross entropy over all bytes or tokens of the batch."""
        return next_byte_loss

    def make_metrics(self) -> MetricCollection:
        """Return bits per byte, or perplexity per token; and accuracy."""
        size = vocabulary_setting()
        accuracy = Accuracy(num_classes=size or BYTES, average="micro", ignore_index=NOT_WANTED)
        cost: Metric = Perplexity() if size else BitsPerByte()
        return MetricCollection({"perplexity" if size else "bits_per_byte": cost, "accuracy": accuracy})

    def used_fields(self) -> tuple[str, ...]:
        """Return the name of the text's field, from the setting `input_field`; its reader supplies the other fields."""
        field, self._context = text_settings()
        self._vocabulary = vocabulary_setting()
        return (field,)

    def given_fields(self) -> tuple[str, ...]:
        """Return no field: `forward` takes the first `context` bytes or tokens of a text, as int64."""
        return ()

    def split_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the inputs and the targets, the next byte or token at each position: int64 `[batch, time]` each; `NOT_WANTED` in padding.

        Raise `DatasetError` if the samples are not windows or lines of text.
        """
        text = batch[self._used[0]]
        for name in (self._used[0], "next"):
            if name in batch and whole(batch[name]).dtype != torch.int64:
                message = f"field {name!r} is {described(batch[name])}; expected bytes, as integers"
                raise DatasetError(message, hint=_READ)
        if "next" in batch:
            given, wanted = text.long(), batch["next"].long()
            if "length" in batch:
                wanted = wanted.masked_fill(is_padding(wanted, batch["length"]), NOT_WANTED)
        elif "length" in batch:
            given, wanted = of_lines(text.long(), batch["length"])
        else:
            raise DatasetError(
                "samples have neither `next` nor `length`; expected windows or lines of text", hint=_READ
            )
        return given[:, : self._context], wanted[:, : self._context]

    def check_batch(self, given: Tensor, wanted: Tensor) -> None:
        """Raise `DatasetError` if samples are not bytes or tokens."""
        del wanted
        if given.ndim != 2:  # noqa: PLR2004 - batch and time
            raise DatasetError(f"texts are {described(given)}; expected {self._unit}s [batch, time]", hint=_READ)
        if given.numel() and not 0 <= int(given.min()) <= int(given.max()) < self._size:
            found = f"values from {int(given.min())} to {int(given.max())}"
            raise DatasetError(f"texts have {found}; expected {self._unit}s, 0 to {self._size - 1}", hint=_READ)

    def check_values(self, seen: Inspection) -> list[str]:
        """Raise `DatasetError` if a split holds a value that is not a byte or a token."""
        for split, values in seen.field(self._used[0]).items():
            for bound in filter(None, (values.low, values.high)):
                if not 0 <= bound.value < self._size:
                    message = f"texts of split {split} hold {bound.value} (the first is in {bound.name})"
                    raise DatasetError(f"{message}; expected {self._unit}s, 0 to {self._size - 1}", hint=_READ)
        return []

    def check_output(self, predicted: Tensor, wanted: Tensor) -> None:
        """Raise `ExperimentError` if the output is not one score for each byte or token at each position."""
        require_float(
            self, predicted, (*wanted.shape, self._size), is_=f"a score of each {self._unit}, at each position"
        )

    def describe_oddity(self, predicted: Tensor, wanted: Tensor) -> tuple[str, str] | None:
        """Report outputs that are probabilities: cross entropy applies the softmax itself."""
        del wanted
        return odd_probabilities(self, predicted, dim=-1) if self.loss is next_byte_loss else None

    def metric_inputs(self, predicted: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores and targets of all positions: `[positions, vocabulary]` and `[positions]`."""
        return predicted.flatten(0, 1), wanted.flatten()

    def counted(self, wanted: Tensor) -> Tensor:
        """Return the number of target bytes or tokens."""
        return (wanted != NOT_WANTED).sum()

    def make_output_buffers(self) -> dict[str, OutputRows]:
        """Return a buffer for the bits of each batch's targets at each position."""
        return {"places": OutputRows("bits", "count")}

    def record_outputs(self, given: Tensor, predicted: Tensor, wanted: Tensor) -> None:
        """Store sums over the batch, for every position up to `context`."""
        del given
        bits = costs(*self.metric_inputs(predicted, wanted)).reshape(wanted.shape) / math.log(2)
        missing = self._context - wanted.shape[1]
        count = (wanted != NOT_WANTED).double()
        sums = {"bits": bits.sum(dim=0), "count": count.sum(dim=0)}
        self.kept["places"].update(**{name: F.pad(row, (0, missing))[None] for name, row in sums.items()})  # type: ignore[operator]

    def figures(self) -> list[Figure]:
        """Return the bits per byte or token at each position, and a text that the net generates."""
        found: dict[str, Tensor] = self.kept["places"].columns()  # type: ignore[operator]
        if not found:
            return []
        bits, count = found["bits"].sum(dim=0), found["count"].sum(dim=0)
        at = [position for position in range(len(count)) if count[position] and torch.isfinite(bits[position])]
        line = Series(name="test", x=tuple(map(float, at)), y=tuple((bits[at] / count[at]).tolist()))
        per = f"its per {self._unit}"
        labels = {"title": f"B{per} at each position", "x_label": f"{self._unit}s before", "y_label": f"b{per}"}
        text = self.alphabet.decode(generate(self, _GENERATED, context=self._context, end=self.alphabet.end))
        passage = TextFigure(name="written", title="Generated text", text=text, split=None)
        return [LineFigure(name="places", series=(line,), **labels), passage]

    @property
    def _size(self) -> int:
        return self._vocabulary or BYTES

    @property
    def _unit(self) -> str:
        return "token" if self._vocabulary else "byte"


_READ: Final = "publish the dataset with the reader `text` or `lines`"


def of_lines(text: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return input ("\n" and the line) and target (the line and "\n"), `[batch, longest + 1]`, of padded lines `[batch, longest]`."""
    positions = torch.arange(text.shape[1] + 1, device=text.device)
    ends = lengths[:, None]
    wanted = torch.where(positions == ends, _NEWLINE, F.pad(text, (0, 1)))
    return F.pad(text, (1, 0), value=_NEWLINE), wanted.masked_fill(positions > ends, NOT_WANTED)


def costs(scores: Tensor, wanted: Tensor) -> Tensor:
    """Return the loss of each byte or token in nats, `[positions]`, float64; 0 for positions without a target."""
    return F.cross_entropy(scores.float(), wanted, ignore_index=NOT_WANTED, reduction="none").double()


def next_byte_loss(scores: Tensor, wanted: Tensor) -> Tensor:
    """Return the cross entropy of scores `[batch, time, vocabulary]` and targets `[batch, time]`: the mean over the targets."""
    return F.cross_entropy(scores.flatten(0, 1), wanted.flatten(), ignore_index=NOT_WANTED)


def is_padding(text: Tensor, lengths: Tensor) -> Tensor:
    """Return which positions of `[batch, time]` are at or after the length of their sample: bool `[batch, time]`."""
    return torch.arange(text.shape[1], device=text.device) >= lengths[:, None]


def generate(net: Task, count: int, *, context: int, end: int = _NEWLINE) -> list[int]:
    """Return `count` bytes or tokens, sampled from the softmax of the net's scores with a separate generator and a fixed seed.

    The context is empty at the start of each line, except for `end`.
    """
    generator = torch.Generator().manual_seed(derived(0, "written"))
    found, line = [end], [end]
    for _ in range(count):
        scores = net(torch.tensor([line[-context:]], device=net.device))[0, -1]
        chances = scores.detach().cpu().double().softmax(dim=0).nan_to_num(1 / len(scores))
        found.append(int(torch.multinomial(chances, 1, generator=generator)))
        line = [end] if found[-1] == end else [*line, found[-1]]
    return found[1:]


class _MeanCost(Metric):
    """The mean loss of a byte or token in nats, in float64; independent of the batches."""

    full_state_update = False
    unit: str
    undefined: str | None = None
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, wanted: Tensor) -> None:
        """Add positions: scores `[positions, vocabulary]`, targets `[positions]`."""
        self.total += costs(scores, wanted).sum()
        self.count += (wanted != NOT_WANTED).sum()

    def compute(self) -> Tensor:
        """Return the mean."""
        self.undefined = None if int(self.count) else f"there is no {self.unit}"
        return self.total / self.count


class BitsPerByte(_MeanCost):
    """The mean loss of a byte in bits: 8 for uniform predictions."""

    unit = "byte"

    def compute(self) -> Tensor:
        """Return the mean."""
        return super().compute() / math.log(2)


class Perplexity(_MeanCost):
    """The exponential of the mean loss of a token: the size of the vocabulary for uniform predictions."""

    unit = "token"

    def compute(self) -> Tensor:
        """Return the perplexity."""
        return super().compute().exp()


@configured
def text_settings(*, input_field: str, context: int) -> tuple[str, int]:
    """Return the name of the text's field, and the largest number of bytes or tokens that a net receives."""
    return input_field, context


@configured
def vocabulary_setting(*, vocabulary: int | None) -> int | None:
    """Return the number of tokens; None for bytes."""
    return vocabulary


@configured
def require_windows(window: int, dataset: str, *, context: int) -> None:
    """Raise `SettingError` if windows of bytes are longer than the context: the net would train on a part of each window."""
    if window > context:
        message = f"setting context is {context}, but the windows of {dataset} have {window:,} bytes"
        raise SettingError(message, hint=f"--context {window}; or publish the text with --window {context}")


@configured
def require_tokens(samples: Samples, dataset: str, *, vocabulary: int | None, context: int) -> None:
    """Raise `SettingError` if the vocabulary or the context does not fit the bytes or tokens of the samples."""
    found = samples.alphabet
    if not found.digest and vocabulary is not None:
        message = f"setting vocabulary is {vocabulary}, but {dataset} has bytes"
        raise SettingError(message, hint="--vocabulary none; or publish the text with --tokenizer")
    if found.digest and (vocabulary is None or vocabulary < found.size):
        message = f"setting vocabulary is {vocabulary}, but {dataset} has {found.size:,} tokens"
        raise SettingError(message, hint=f"--vocabulary {found.size}")
    if found.longest > context:
        message = f"setting context is {context}, but the longest sample of {dataset} has {found.longest:,} tokens"
        raise SettingError(message, hint=f"--context {found.longest}; or publish the text with --window {context}")
