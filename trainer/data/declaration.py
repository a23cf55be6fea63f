"""The declaration of a dataset, `datasets/<name>.toml`: its name, version, reader, splits, and the digest that names every byte."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Annotated, Final

import tomli_w
from pydantic import AfterValidator, Field

from trainer.base.digest import Digest
from trainer.base.document import Count, Document, read_toml
from trainer.base.errors import DatasetError, RepriseError
from trainer.base.suggestions import did_you_mean, short
from trainer.data.reader import (
    ArraysReader,
    Drawn,
    ImagesReader,
    Length,
    LinesReader,
    RawFiles,
    Reader,
    TableReader,
    TextReader,
    Typed,
)
from trainer.data.splits import Split
from trainer.data.tables.source_table import SourceTable
from trainer.data.upstream.listing import Upstream

if TYPE_CHECKING:
    from pathlib import Path

FOLDER: Final = "datasets"
LONGEST_NAME: Final = 63
NAME: Final = r"[a-z0-9][a-z0-9_-]{0,62}"
SPELLING: Final = f"1 to {LONGEST_NAME} of a-z, 0-9, - and _, a letter or a digit first"
_NUMBERS: Final = re.compile(r"\[\n((?: +[-\d.]+,\n)+)\]")


def require_name(name: str) -> None:
    """Raise `DatasetError` if `name` is not a valid name of a dataset; the hint is a similar valid name."""
    if not re.fullmatch(NAME, name):
        message = f"{short(name)!r} cannot be a dataset's name: expected {SPELLING}"
        raise DatasetError(message, hint=f"for example {_near(name) or 'my-data'}")


def _near(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:LONGEST_NAME].strip("-_")


def _name(text: str) -> str:
    if not re.fullmatch(NAME, text):
        near = _near(text)
        raise ValueError(f"expected a name of {SPELLING}{f': {near}' if near else ''}")
    return text


Name = Annotated[str, AfterValidator(_name)]


class Described(Document):
    """The part of a declaration that the user writes."""

    name: Name
    license: str = "unknown"
    source: str = "unknown"
    splits: dict[str, Split] = {}
    reader: Reader = RawFiles()
    sample: dict[str, Typed] = Field(default={}, exclude_if=lambda fields: not fields)
    """Types and shapes of the fields of a sample; empty if they are not declared."""
    source_table: SourceTable | None = Field(default=None, exclude_if=lambda table: table is None)
    """How the original file of the table was read; `None` if the files were published unchanged."""
    upstream: Upstream | None = Field(default=None, exclude_if=lambda upstream: upstream is None)
    """The source from which the files were imported; `None` if they were published from a folder."""
    allow_nan: tuple[str, ...] = Field(default=(), exclude_if=lambda fields: not fields)
    """Fields in which `publish` accepts NaN and infinities."""
    twin: dict[str, Drawn] = Field(default={}, exclude_if=lambda fields: not fields)
    """The fields of the synthetic dataset. They are not part of a published version, so they can be changed afterwards."""


class Draft(Described):
    """A dataset before it is published."""


class Dataset(Described):
    """A named, versioned, immutable set of files."""

    version: Annotated[Count, Field(ge=1)]
    manifest: Digest
    """Digest of the manifest, which lists every file and its position in packs."""
    content: Digest
    """Digest of the files without their positions in packs: the identity of the data for a run."""
    files: Count
    bytes: Count

    @property
    def title(self) -> str:
        """Name and version: `digits@1`."""
        return f"{self.name}@{self.version}"

    @property
    def upload_command(self) -> str:
        """The command that adds the dataset to a store: an import if its upstream source is known."""
        source = self.upstream.source if self.upstream else None
        return (
            f"reprise data import {self.name} {shlex.quote(source)}"
            if source
            else f"reprise data publish {self.name} DIR"
        )

    @property
    def published(self) -> Dataset:
        """The dataset as a store records it, without the twin."""
        return self.model_copy(update={"twin": {}})


def declaration(name: str, *, root: Path) -> Path:
    """Return the path of the declaration of `name` in the checkout `root`."""
    return root / FOLDER / f"{name}.toml"


def is_declared(name: str, *, root: Path) -> bool:
    """Return whether `name` is valid and declared in the checkout `root`."""
    return re.fullmatch(NAME, name) is not None and declaration(name, root=root).is_file()


def dataset_names(*, root: Path) -> list[str]:
    """Return the names of all datasets declared in the checkout `root`, sorted."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.toml"))


def load_dataset(name: str, *, root: Path) -> Dataset:
    """Load the declared dataset `name`. Raise `DatasetError` if it is not declared, `DocumentError` if its file is invalid."""
    path = declaration(name, root=root)
    if not is_declared(name, root=root):
        known = dataset_names(root=root)
        base, numbered, number = name.partition("@")
        if numbered and is_declared(base, root=root):
            dataset, file = load_dataset(base, root=root), f"{FOLDER}/{base}.toml"
            message = f"dataset {name}: expected a name without a version; {file} declares the version, {dataset.title}"
            other = f"; for another version: `git log {file}`, then `git checkout COMMIT {file}`"
            raise DatasetError(message, hint=f"write {base}{'' if number == str(dataset.version) else other}")
        raise DatasetError(
            f"dataset {short(name)!r} is not declared in {root / FOLDER}", hint=did_you_mean(name, known)
        )
    dataset = read_toml(path, Dataset)
    if dataset.name != name:
        hint = "rename the file after the dataset"
        raise DatasetError(f"{path} declares a dataset named {dataset.name!r}; expected {name!r}", hint=hint)
    return dataset


def readable_datasets(*, root: Path) -> tuple[list[Dataset], dict[str, str]]:
    """Return the readable datasets, and the error messages of the other datasets by name."""
    datasets: list[Dataset] = []
    faults: dict[str, str] = {}
    for name in dataset_names(root=root):
        try:
            datasets.append(load_dataset(name, root=root))
        except RepriseError as fault:
            faults[name] = fault.message
    return datasets, faults


def declared(dataset: Dataset) -> str:
    """Return the text of `datasets/<name>.toml`; equal datasets have equal texts."""
    values = dataset.model_dump(mode="json", exclude_none=True)
    body = tomli_w.dumps({key: values.pop(key) for key in _FIRST} | values)
    return _HEAD + _NUMBERS.sub(lambda match: f"[{', '.join(match[1].replace(',', '').split())}]", body)


_FIRST: Final = ("name", "version", "manifest", "content", "files", "bytes")
_HEAD: Final = """\
# Written by `reprise data publish`: the manifest's digest names every byte.
# To change license, source, splits or reader, edit them here and publish again: the version goes up.
"""


def sample_fields(reader: Reader) -> tuple[str, ...]:
    """Return the names of the fields of a sample."""
    if isinstance(reader, LinesReader) and reader.tokens:
        return ("text", "next", "length")
    return tuple(reader.fields) if isinstance(reader, ArraysReader | TableReader) else _FIELDS[reader.kind]


def sample_types(dataset: Dataset) -> dict[str, Drawn | None]:
    """Return the type, shape and number of classes of each field of a sample; `None` for a field whose type is unknown."""
    read = types_of(dataset.reader)
    return {name: _declared_type(dataset, name, read.get(name)) for name in sample_fields(dataset.reader)}


def _declared_type(dataset: Dataset, name: str, read: Drawn | None) -> Drawn | None:
    """Return a field's type and shape from `sample`, else from the reader, else from `twin`.

    The number of classes is that of the reader, else that of `twin`.
    """
    twin = dataset.twin.get(name)
    typed = dataset.sample.get(name) or read or twin
    if typed is None:
        return None
    classes = next((each.classes for each in (read, twin) if each and each.classes), None)
    return Drawn(dtype=typed.dtype, shape=typed.shape, classes=classes)


def types_of(reader: Reader) -> dict[str, Drawn]:
    """Return the type, shape and number of classes of the fields that follow from the reader's declaration alone."""
    match reader:
        case ImagesReader():
            size: tuple[Length, Length] = reader.size if reader.size and reader.resize != "fit" else ("any", "any")
            image = Drawn(dtype=reader.dtype, shape=(_CHANNELS[reader.mode], *size))
            classes = len(reader.classes) if len(reader.classes) > 1 else None
            return {"image": image, "label": Drawn(dtype="int64", classes=classes)}
        case TableReader():
            return {
                name: Drawn(dtype=dtype, shape=shape, classes=_label_classes(reader, name))
                for name, (dtype, shape) in reader.sample_types.items()
            }
        case LinesReader(tokens=tokens):
            text = Drawn(dtype="uint8", shape=("any",))
            if tokens:
                text = Drawn(dtype="int64", shape=(tokens.window or "any",), classes=tokens.vocabulary)
            return {"text": text, **({"next": text} if tokens else {}), "length": Drawn(dtype="int64")}
        case TextReader():
            count = reader.tokens.vocabulary if reader.tokens else None
            return {name: Drawn(dtype="int64", shape=(reader.window,), classes=count) for name in ("text", "next")}
        case RawFiles():
            return {"bytes": Drawn(dtype="uint8", shape=("any",)), "length": Drawn(dtype="int64")}
    return {}


def _label_classes(reader: TableReader, field: str) -> int | None:
    """Return the number of classes of a field that is a label; `None` for another field."""
    name = reader.fields[field].column
    treatment = reader.columns.get(name) if isinstance(name, str) else None
    return treatment.codes if treatment and treatment.first == 0 else None


_CHANNELS: Final = {"L": 1, "RGB": 3, "RGBA": 4}
_FIELDS: Final = {
    "images": ("image", "label"),
    "lines": ("text", "length"),
    "text": ("text", "next"),
    "files": ("bytes", "length"),
    "weights": (),
}
