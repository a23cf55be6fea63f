"""A dataset as git knows it: its name, its version, and the digest that names every byte; never the data.

Knows the declaration `datasets/<name>.toml`. Refuses to know where a dataset's bytes are, and how a sample is read from them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal

import tomli_w
from pydantic import AfterValidator, Field, StringConstraints

from trainer.digest import Digest
from trainer.document import Document, parse_json, read_toml
from trainer.errors import DatasetError
from trainer.paths import path_fault
from trainer.suggest import did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

FOLDER: Final = "datasets"
NAME: Final = r"[a-z0-9][a-z0-9_-]{0,62}"
_PAIR: Final = re.compile(r"\[\n +(\d+),\n +(\d+),\n\]")


def _path(text: str) -> str:
    if fault := path_fault(text):
        raise ValueError(f"not a path inside a dataset: {fault}")
    return text


def _rows(span: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= span[0] <= span[1]:
        raise ValueError("expected [first, one past the last], counted from 0")
    return span


InnerPath = Annotated[str, AfterValidator(_path)]
"""A file inside the dataset, by its relative path."""
Rows = Annotated[tuple[int, int], AfterValidator(_rows)]
"""Samples `first <= row < last`, in the reader's order."""


class Arrays(Document):
    """A sample is one row of each array; a row is along the first axis."""

    kind: Literal["arrays"]
    fields: dict[str, InnerPath] = Field(min_length=1)
    """A sample's field, and the `.npy` file that holds it."""


class Lines(Document):
    """A sample is one line of a UTF-8 text file."""

    kind: Literal["lines"]
    file: InnerPath


class Files(Document):
    """The folder itself: nothing is promised about what is in it."""

    kind: Literal["files"] = "files"


Reader = Annotated[Arrays | Lines | Files, Field(discriminator="kind")]


Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]


class Dataset(Document):
    """A named, versioned, immutable set of files."""

    name: Name
    version: int = Field(ge=1)
    manifest: Digest
    """Names every file and where its bytes lie in packs: what is fetched."""
    content: Digest
    """Names every file and nothing else: what a run's result depends on. Repacking leaves it as it is."""
    files: int = Field(ge=0)
    bytes: int = Field(ge=0)
    licence: str = "unknown"
    source: str = "unknown"
    splits: dict[str, Rows] = {}
    reader: Reader = Files()

    @property
    def title(self) -> str:
        """Name and version, as they are typed: `digits@1`."""
        return f"{self.name}@{self.version}"


def declaration(name: str, *, root: Path) -> Path:
    """Where `name` is declared in the checkout `root`."""
    return root / FOLDER / f"{name}.toml"


def dataset_names(*, root: Path) -> list[str]:
    """All names declared in the checkout `root`, sorted."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.toml"))


def load_dataset(name: str, *, root: Path) -> Dataset:
    """The declared dataset `name`. Raises `DatasetError` when it is not declared, `DocumentError` when its file cannot be read."""
    path = declaration(name, root=root)
    if not re.fullmatch(NAME, name) or not path.is_file():
        known = dataset_names(root=root)
        raise DatasetError(f"dataset {name!r} is not declared in {root / FOLDER}", hint=did_you_mean(name, known))
    dataset = read_toml(path, Dataset)
    if dataset.name != name:
        hint = "name the file after the dataset"
        raise DatasetError(f"{path} declares a dataset named {dataset.name!r}; expected {name!r}", hint=hint)
    return dataset


def parse_dataset(text: bytes, *, where: str) -> Dataset:
    """A version's document as it stands in the store."""
    return parse_json(text, Dataset, where=where)


def declared(dataset: Dataset) -> str:
    """The text of `datasets/<name>.toml`; the same dataset always gives the same text."""
    body = tomli_w.dumps(dataset.model_dump(mode="json"))
    return _HEAD + _PAIR.sub(r"[\1, \2]", body)


_HEAD: Final = """\
# Written by `reprise data publish`: the manifest's digest names every byte.
# To change licence, source, splits or reader, edit them here and publish again: the version goes up.
"""
