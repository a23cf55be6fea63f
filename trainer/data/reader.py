"""How a dataset's samples are read: what a declaration says under `[reader]`, and what a sample is under `[sample]`.

Knows the kinds and their words. Refuses to read anything: `trainer.training.readers` does, and what a folder lacks is found when it is
published (`trainer.data.check`).
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


def _resize(said: Any) -> Any:
    """Earlier declarations have `resize = true`, which stretched, or `resize = false`."""
    return ("stretch" if said else None) if isinstance(said, bool) else said


InnerPath = Annotated[str, AfterValidator(_path)]
"""A file inside the dataset, by its relative path."""
Prefix = Annotated[str, AfterValidator(_prefix)]
"""What the paths of some files begin with: `train/`."""
DType = Literal["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
MOST_PIXELS: Final = 64_000_000
"""Of one picture: checked before it is decoded, and of the size that a reader brings pictures to."""
Length = PositiveInt | Literal["any"]


class Typed(Document):
    """What a field of a sample is; checked when the dataset is published and when it is opened."""

    dtype: DType
    shape: tuple[Length, ...] = ()
    """Without the batch; `any` where samples differ."""

    def __str__(self) -> str:
        """As it is typed: `float32[1,8,8]`."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    def admits(self, dtype: str, shape: tuple[Length, ...]) -> bool:
        """Whether a sample's field is as declared."""
        fits = len(shape) == len(self.shape) and all(
            said in {"any", is_} for said, is_ in zip(self.shape, shape, strict=True)
        )
        return dtype == self.dtype and fits


class Drawn(Typed):
    """What a field of the synthetic dataset is: its values are drawn; real ones are held against it by `reprise check`."""

    classes: PositiveInt | None = Field(default=None, exclude_if=lambda value: value is None)
    """The values are whole numbers from 0 on, below this."""
    range: tuple[float, float] | None = Field(default=None, exclude_if=lambda value: value is None)
    """The lowest and the highest value, both included."""


class Arrays(Document):
    """A sample is one row of each array; a row is along the first axis."""

    kind: Literal["arrays"]
    fields: dict[str, InnerPath] = Field(min_length=1)
    """A sample's field, and the `.npy` file that holds it."""

    @property
    def needed(self) -> tuple[str, ...]:
        """The files that it reads."""
        return tuple(self.fields.values())


class Images(Document):
    """A sample is one picture: `image` [channels, height, width], and `label`, an int64: the number of its class."""

    kind: Literal["images"]
    folder: Prefix = ""
    """Only files whose path begins so."""
    classes: tuple[str, ...] = ()
    """The classes, by number; where none are named: the names of the folders that hold the pictures, sorted."""
    labels: InnerPath | None = None
    """A CSV file with the columns `file` and `class`, where folders do not tell the class."""
    mode: Literal["L", "RGB", "RGBA"] = "RGB"
    """What each picture is converted to: 1, 3 or 4 channels."""
    size: tuple[PositiveInt, PositiveInt] | None = None
    """Height and width; a picture of another size is rejected, or resized."""
    resize: Annotated[Literal["stretch", "crop", "pad", "fit"] | None, BeforeValidator(_resize)] = None
    """How each picture is brought to `size`: bilinear with antialiasing, by Pillow, whose release is part of the run's lock."""
    fill: Annotated[float, Field(ge=0, le=1)] = Field(default=0.0, exclude_if=lambda value: value == 0)
    """What `resize = "pad"` adds around a picture, in every channel: 0 is black, 1 is white."""
    orientation: Literal["apply"] = "apply"
    """Pictures are turned upright as their EXIF data says, before their size is compared."""
    white: Annotated[FiniteFloat, Field(gt=0)] | None = Field(default=None, exclude_if=lambda value: value is None)
    """The value that is read as 1.0, of pictures with more than 8 bits a channel: 4095 for 12-bit values in 16-bit files."""
    alpha: Literal["drop", "white", "black"] | None = Field(default=None, exclude_if=lambda value: value is None)
    """What mode L and RGB do with transparency: leave it out, or put the picture on white or black. Otherwise it is rejected."""
    frames: Literal["first"] | None = Field(default=None, exclude_if=lambda value: value is None)
    """Take the first frame of an animation and the first page of a document. Otherwise more than one is rejected."""
    dtype: Literal["float32", "uint8"] = "float32"
    """`float32` from 0 to 1, or `uint8` from 0 to 255."""

    @property
    def needed(self) -> tuple[str, ...]:
        """The files that it names."""
        return () if self.labels is None else (self.labels,)

    @model_validator(mode="after")
    def _options_that_fit_together(self) -> Images:
        if self.resize and self.size is None:
            raise ValueError("resize needs size")
        if self.size and self.size[0] * self.size[1] > MOST_PIXELS:
            raise ValueError(f"size has more than {MOST_PIXELS:,} pixels")
        if self.fill and self.resize != "pad":
            raise ValueError("fill is what resize = 'pad' adds; it needs that resize")
        if self.alpha and self.mode == "RGBA":
            raise ValueError("alpha is for mode L or RGB; mode RGBA keeps transparency as its fourth channel")
        return self


class Column(Document):
    """What a field of a table's sample is made of."""

    column: str | Annotated[tuple[str, ...], Field(min_length=1)]
    """One column, a number a sample; or several, a vector a sample."""
    dtype: DType = "float32"

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return (self.column,) if isinstance(self.column, str) else self.column


class Table(Document):
    """A sample is one row of Parquet files, one after the other."""

    kind: Literal["table"]
    files: tuple[InnerPath, ...] = Field(min_length=1)
    fields: dict[str, Column] = Field(min_length=1)

    @property
    def needed(self) -> tuple[str, ...]:
        """The files that it reads."""
        return self.files


InnerPaths = InnerPath | Annotated[tuple[InnerPath, ...], Field(min_length=1)]
"""One file, or several, one after the other."""


class Lines(Document):
    r"""A sample is one line of UTF-8 text, without its end: `text` uint8 [bytes] and `length` int64; a batch is padded with zeros."""

    kind: Literal["lines"]
    file: InnerPaths

    @property
    def needed(self) -> tuple[str, ...]:
        """The files that it reads."""
        return (self.file,) if isinstance(self.file, str) else self.file


class Text(Document):
    """A sample is a window of bytes: `text` int64 [window], and `next` int64 [window], the same one byte further on."""

    kind: Literal["text"]
    file: InnerPaths
    window: PositiveInt
    stride: PositiveInt | None = None
    """Bytes from one window to the next; otherwise `window`."""

    @property
    def needed(self) -> tuple[str, ...]:
        """The files that it reads."""
        return (self.file,) if isinstance(self.file, str) else self.file

    @property
    def step(self) -> int:
        """Bytes from one window to the next."""
        return self.stride or self.window

    def count(self, size: int) -> int:
        """How many windows a file of `size` bytes has: each needs one byte more than its own, which comes next."""
        return max(0, (size - self.window - 1) // self.step + 1)


class Files(Document):
    """A sample is one file: `bytes` uint8 [size] and `length` int64; a batch is padded with zeros."""

    kind: Literal["files"] = "files"

    @property
    def needed(self) -> tuple[str, ...]:
        """None in particular."""
        return ()


Reader = Annotated[Arrays | Images | Table | Lines | Text | Files, Field(discriminator="kind")]


def check_sample(
    said: Mapping[str, Typed], found: Mapping[str, tuple[str, tuple[Length, ...]]], *, dataset: str
) -> None:
    """Hold what a sample is, by dtype and shape, against what is declared. Raises `DatasetError`, naming the field and both."""
    for field, typed in said.items():
        if field not in found:
            raise DatasetError(f"a sample of {dataset} has no field {field!r}", hint=did_you_mean(field, found))
        dtype, shape = found[field]
        if not typed.admits(dtype, shape):
            is_ = f"{dtype}[{','.join(map(str, shape))}]"
            sentence = f"{field!r} of a sample of {dataset} is {is_}; declared is {typed}"
            raise DatasetError(sentence, hint=f"change its files, or declare --sample '{field}={is_}'")


def even_rows(rows: Mapping[str, int], *, dataset: str) -> int:
    """How many samples arrays of these lengths make. Raises `DatasetError` where they differ."""
    if len(set(rows.values())) != 1:
        told = ", ".join(f"{field} {count:,}" for field, count in rows.items())
        raise DatasetError(
            f"the arrays of {dataset} have different rows: {told}", hint="correct its files: a sample is a row of each"
        )
    return next(iter(rows.values()))
