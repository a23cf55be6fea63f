"""The sections `[reader]` and `[sample]` of a declaration: how samples are read, and their types and shapes.

`trainer.training.readers` reads samples; `trainer.data.check` compares a folder with its declaration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat, PositiveInt, model_validator

from trainer.base.document import Document
from trainer.base.errors import DatasetError
from trainer.base.paths import path_fault
from trainer.base.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping


def _path(text: str) -> str:
    if fault := path_fault(text):
        raise ValueError(f"not a path inside a dataset: {fault}")
    return text


def _prefix(text: str) -> str:
    if text and (fault := path_fault(text.removesuffix("/"))):
        raise ValueError(f"not the beginning of a path inside a dataset: {fault}")
    return text


def _resize(value: Any) -> Any:
    """Convert the booleans of earlier declarations, in which `true` meant `stretch`."""
    return ("stretch" if value else None) if isinstance(value, bool) else value


InnerPath = Annotated[str, AfterValidator(_path)]
"""The relative path of a file in the dataset."""
Prefix = Annotated[str, AfterValidator(_prefix)]
"""The beginning of the paths of some files: `train/`."""
DType = Literal["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
MOST_PIXELS: Final = 64_000_000
"""Maximum number of pixels of a picture, before decoding and after resizing."""
MOST_IDS: Final = 2**31 - 1
"""Maximum size of a tokenizer's vocabulary, because token numbers have 32 bits."""
Length = PositiveInt | Literal["any"]


class Typed(Document):
    """Type and shape of a field of a sample; checked when the dataset is published and opened."""

    dtype: DType
    shape: tuple[Length, ...] = ()
    """The lengths of the axes, without the batch axis; `any` for a length that differs between samples."""

    def __str__(self) -> str:
        """Return the form for the command line: `float32[1,8,8]`."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    def admits(self, dtype: str, shape: tuple[Length, ...]) -> bool:
        """Return whether a field of a sample has the declared type and shape."""
        fits = len(shape) == len(self.shape) and all(
            declared in {"any", length} for declared, length in zip(self.shape, shape, strict=True)
        )
        return dtype == self.dtype and fits


class Drawn(Typed):
    """A field of the synthetic dataset, whose values are random; `reprise check` compares real values with it."""

    classes: PositiveInt | None = Field(default=None, exclude_if=lambda value: value is None)
    """If set, values are whole numbers from 0 to `classes` - 1."""
    range: tuple[float, float] | None = Field(default=None, exclude_if=lambda value: value is None)
    """The lowest and the highest value, inclusive."""


class _Reader(Document):
    @property
    def needed(self) -> tuple[str, ...]:
        """The files that the reader needs by name."""
        match self:
            case ArraysReader(fields=fields):
                return tuple(fields.values())
            case ImagesReader(labels=str(labels)):
                return (labels,)
            case TableReader(files=files):
                return files
            case LinesReader() | TextReader() as text:
                return (*text.files, *([text.tokens.tokenizer] if text.tokens else []))
            case Weights(file=file):
                return (file,)
            case _:
                return ()


class ArraysReader(_Reader):
    """A sample is one row of each array, along the first axis."""

    kind: Literal["arrays"]
    fields: dict[str, InnerPath] = Field(min_length=1)
    """The `.npy` file of each field of a sample."""


class ImagesReader(_Reader):
    """A sample is one picture: `image` [channels, height, width], and `label` int64, the number of its class."""

    kind: Literal["images"]
    folder: Prefix = ""
    """Only files whose paths begin with this prefix are read."""
    classes: tuple[str, ...] = ()
    """The classes by number; if empty, the sorted class names of the folders or of the label table."""
    labels: InnerPath | None = None
    """A CSV file with the columns `file` and `class`, if folders do not name the classes."""
    mode: Literal["L", "RGB", "RGBA"] = "RGB"
    """The mode to which pictures are converted: 1, 3 or 4 channels."""
    size: tuple[PositiveInt, PositiveInt] | None = None
    """Height and width; a picture of another size is rejected, or resized."""
    resize: Annotated[Literal["stretch", "crop", "pad", "fit"] | None, BeforeValidator(_resize)] = None
    """How pictures are resized to `size`: bilinear with antialiasing, by the Pillow version of the run's lock."""
    fill: Annotated[float, Field(ge=0, le=1)] = Field(default=0.0, exclude_if=lambda value: value == 0)
    """The value that `resize = "pad"` adds in every channel: 0 is black, 1 is white."""
    orientation: Literal["apply"] = "apply"
    """Pictures are rotated by their EXIF orientation before their size is checked."""
    white: Annotated[FiniteFloat, Field(gt=0)] | None = Field(default=None, exclude_if=lambda value: value is None)
    """The value that is read as 1.0 in pictures with more than 8 bits per channel: 4095 for 12-bit values in 16-bit files."""
    alpha: Literal["drop", "white", "black"] | None = Field(default=None, exclude_if=lambda value: value is None)
    """How mode L and RGB treat transparency: drop it, or blend with white or black. By default it is rejected."""
    frames: Literal["first"] | None = Field(default=None, exclude_if=lambda value: value is None)
    """Read the first frame of animations and the first page of documents. By default, several frames are rejected."""
    dtype: Literal["float32", "uint8"] = "float32"
    """`float32` from 0 to 1, or `uint8` from 0 to 255."""

    @model_validator(mode="after")
    def _options_that_fit_together(self) -> ImagesReader:
        if self.resize and self.size is None:
            raise ValueError("resize requires size")
        if self.size and self.size[0] * self.size[1] > MOST_PIXELS:
            raise ValueError(f"size has more than {MOST_PIXELS:,} pixels")
        if self.fill and self.resize != "pad":
            raise ValueError("fill requires resize = 'pad'")
        if self.alpha and self.mode == "RGBA":
            raise ValueError("alpha is for mode L or RGB; mode RGBA keeps transparency as its fourth channel")
        return self


class TableField(Document):
    """The table columns from which a field of each sample is read."""

    column: str | Annotated[tuple[str, ...], Field(min_length=1)]
    """One column for a number per sample, or several for a vector per sample."""
    dtype: DType = "float32"

    @property
    def names(self) -> tuple[str, ...]:
        """The column names."""
        return (self.column,) if isinstance(self.column, str) else self.column


class Treatment(Document):
    """How the values of one column become numbers: the codes of categories, and the replacement of missing values.

    The code of `values[n]` is `first` + n, so appending values does not change codes. Codes 0 and 1 of a feature stand for a missing and an
    unknown value. The classes of a label begin at 0, and have no such codes.
    """

    values: tuple[str, ...] = Field(default=(), exclude_if=lambda values: not values)
    """The categories, in the order of their codes; empty for a column of numbers."""
    first: Literal[0, 2] = Field(default=2, exclude_if=lambda value: value == 2)  # noqa: PLR2004 - after missing and unknown
    missing: Literal["reject", "mean", "median", "indicator", "category"] = Field(
        default="reject", exclude_if=lambda value: value == "reject"
    )
    """`indicator` replaces a missing value with the mean, and appends a number to the field: 1 if the value is missing, else 0."""
    fill: FiniteFloat | None = Field(default=None, exclude_if=lambda value: value is None)
    """The number that replaces a missing value: the mean or the median of the version's training split."""
    unknown: Literal["reject", "category"] = Field(default="reject", exclude_if=lambda value: value == "reject")
    """Whether a value that is not in `values` is rejected, or has code 1."""

    @property
    def codes(self) -> int:
        """The number of codes: of the categories and, for a feature, of a missing and an unknown value."""
        return self.first + len(self.values)

    @model_validator(mode="after")
    def _options_that_fit_together(self) -> Treatment:
        is_number = self.missing in {"mean", "median", "indicator"}
        if self.values and is_number:
            raise ValueError(f"missing = {self.missing!r} is for numbers; categories have 'reject' and 'category'")
        if not self.values and (self.missing == "category" or self.unknown == "category" or self.first == 0):
            raise ValueError(
                "values is empty, but missing or unknown is 'category', or first is 0; expected the categories"
            )
        if self.first == 0 and (self.missing, self.unknown) != ("reject", "reject"):
            raise ValueError("codes that begin at 0 have no code for a missing or an unknown value")
        if len(set(self.values)) < len(self.values):
            raise ValueError("a category is listed twice")
        return self


class TableReader(_Reader):
    """A sample is one row of concatenated Parquet files."""

    kind: Literal["table"]
    files: tuple[InnerPath, ...] = Field(min_length=1)
    fields: dict[str, TableField] = Field(min_length=1)
    columns: dict[str, Treatment] = Field(default={}, exclude_if=lambda columns: not columns)
    """The treatments of columns; a column without a treatment has numbers, and no missing values."""

    @model_validator(mode="after")
    def _codes_are_int64(self) -> TableReader:
        for field, column in self.fields.items():
            coded = next((name for name in column.names if (each := self.columns.get(name)) and each.values), None)
            if coded and column.dtype != "int64":
                raise ValueError(f"field {field!r} has codes of column {coded!r}; its dtype must be int64")
        return self

    @property
    def sample_types(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The type and shape of each field of a sample."""
        return {field: (column.dtype, self.shape_of(column)) for field, column in self.fields.items()}

    def shape_of(self, column: TableField) -> tuple[int, ...]:
        """Return the shape of the field of a sample that is read from `column`."""
        return () if isinstance(column.column, str) else (len(column.names) + len(self.indicated(column)),)

    def indicated(self, column: TableField) -> tuple[str, ...]:
        """Return the columns of a field that have an indicator for missing values."""
        treated = ((name, self.columns.get(name)) for name in column.names)
        return tuple(name for name, each in treated if each and each.missing == "indicator")

    def codes_of(self, field: str) -> tuple[int, ...]:
        """Return the number of codes of each column of a field; empty if a column is a number."""
        treated = [self.columns.get(name) for name in self.fields[field].names]
        return tuple(each.codes for each in treated if each) if all(each and each.values for each in treated) else ()


InnerPaths = InnerPath | Annotated[tuple[InnerPath, ...], Field(min_length=1)]
"""One file, or several concatenated files."""


def _in_order(files: str | tuple[str, ...]) -> tuple[str, ...]:
    return (files,) if isinstance(files, str) else files


class Tokens(Document):
    """How lines become tokens: with a `tokenizer.json` for Hugging Face's library `tokenizers`, a file of the same dataset."""

    tokenizer: InnerPath
    vocabulary: Annotated[int, Field(ge=1, le=MOST_IDS)]
    """The largest token number, plus 1: the number of rows of an embedding."""
    end: Annotated[str, Field(min_length=1)]
    """The token that follows each line."""


class PaddedTokens(Tokens):
    """How a line becomes one sequence of tokens, padded at its end."""

    pad: Annotated[str, Field(min_length=1)]
    """The token that pads a line. It may be the end token, because `length` distinguishes tokens from padding."""
    window: PositiveInt | None = Field(default=None, exclude_if=lambda value: value is None)
    """The length of all samples; `None` pads a line to the longest line of its batch."""
    long_lines: Literal["reject", "truncate"] = Field(default="reject", exclude_if=lambda value: value == "reject")
    """Whether a line that does not fit in the window is rejected, or keeps its first tokens."""

    @model_validator(mode="after")
    def _long_lines_need_a_window(self) -> PaddedTokens:
        if self.long_lines != "reject" and self.window is None:
            raise ValueError("long_lines requires window")
        return self


class LinesReader(_Reader):
    r"""A sample is one line of UTF-8 text without the line end: `text` uint8 [bytes] and `length` int64; a batch is padded with zeros.

    With `tokens`, a sample is `text` int64 [tokens] (the end token, then the line), `next` int64 [tokens] (the line, then the end token),
    and `length` int64.
    """

    kind: Literal["lines"]
    file: InnerPaths
    tokens: PaddedTokens | None = Field(default=None, exclude_if=lambda value: value is None)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that hold the lines."""
        return _in_order(self.file)


class TextReader(_Reader):
    """A sample is a window of bytes: `text` int64 [window], and `next` int64 [window], shifted by one byte.

    With `tokens`, it is a window of the tokens of all lines, each followed by the end token; `window` and `stride` count tokens.
    """

    kind: Literal["text"]
    file: InnerPaths
    window: PositiveInt
    stride: PositiveInt | None = None
    """Bytes or tokens from one window to the next (default: `window`)."""
    tokens: Tokens | None = Field(default=None, exclude_if=lambda value: value is None)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that hold the text."""
        return _in_order(self.file)

    @property
    def step(self) -> int:
        """Bytes or tokens from one window to the next."""
        return self.stride or self.window

    def count(self, size: int) -> int:
        """Return the number of windows in a file of `size` bytes or tokens; each also needs the byte or token after it."""
        return max(0, (size - self.window - 1) // self.step + 1)


class Weights(_Reader):
    """The tensors of a net in one safetensors file. The dataset has no samples; the setting `init_from` loads the tensors into a net."""

    kind: Literal["weights"]
    file: InnerPath = "weights.safetensors"


class RawFiles(_Reader):
    """A sample is one file: `bytes` uint8 [size] and `length` int64; a batch is padded with zeros."""

    kind: Literal["files"] = "files"


Reader = Annotated[
    ArraysReader | ImagesReader | TableReader | LinesReader | TextReader | Weights | RawFiles,
    Field(discriminator="kind"),
]


def check_sample(
    declared: Mapping[str, Typed], found: Mapping[str, tuple[str, tuple[Length, ...]]], *, dataset: str
) -> None:
    """Compare the fields of a sample with their declaration. Raise `DatasetError` on the first difference."""
    for field, typed in declared.items():
        if field not in found:
            raise DatasetError(f"a sample of {dataset} has no field {field!r}", hint=did_you_mean(field, found))
        dtype, shape = found[field]
        if not typed.admits(dtype, shape):
            actual = f"{dtype}[{','.join(map(str, shape))}]"
            message = f"{field!r} of a sample of {dataset} is {actual}; expected {typed}"
            raise DatasetError(message, hint=f"change its files, or declare --sample '{field}={actual}'")


def even_rows(rows: Mapping[str, int], *, dataset: str) -> int:
    """Return the common number of rows of arrays. Raise `DatasetError` if they differ."""
    if len(set(rows.values())) != 1:
        counts = ", ".join(f"{field} {count:,}" for field, count in rows.items())
        raise DatasetError(
            f"the arrays of {dataset} have different numbers of rows: {counts}",
            hint="correct its files: a sample is one row of each array",
        )
    return next(iter(rows.values()))
