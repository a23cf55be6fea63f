"""A dataset as git knows it: its name, its version, and the digest that names every byte; never the data.

Knows the declaration `datasets/<name>.toml`. Refuses to know where a dataset's bytes are, and how a sample is read from them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

import tomli_w
from pydantic import AfterValidator, Field

from trainer.base.digest import Digest
from trainer.base.document import Count, Document, parse_json, read_toml
from trainer.base.errors import DatasetError, RepriseError
from trainer.base.suggestions import did_you_mean, short
from trainer.data.reader import Drawn, Files, Reader, Typed
from trainer.data.splits import Split

if TYPE_CHECKING:
    from pathlib import Path

FOLDER: Final = "datasets"
LONGEST_NAME: Final = 63
NAME: Final = r"[a-z0-9][a-z0-9_-]{0,62}"
SPELLING: Final = f"1 to {LONGEST_NAME} of a-z, 0-9, - and _, a letter or a digit first"
_NUMBERS: Final = re.compile(r"\[\n((?: +[-\d.]+,\n)+)\]")


def require_name(name: str) -> None:
    """Raise `DatasetError` for a name that no dataset can have, with one that it can."""
    if not re.fullmatch(NAME, name):
        said = f"{short(name)!r} cannot be a dataset's name: expected {SPELLING}"
        raise DatasetError(said, hint=f"for example {_near(name) or 'my-data'}")


def _near(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:LONGEST_NAME].strip("-_")


def _name(text: str) -> str:
    if not re.fullmatch(NAME, text):
        near = _near(text)
        raise ValueError(f"a name is {SPELLING}{f': {near}' if near else ''}")
    return text


Name = Annotated[str, AfterValidator(_name)]


class Described(Document):
    """What a person says about a dataset."""

    name: Name
    license: str = "unknown"
    source: str = "unknown"
    splits: dict[str, Split] = {}
    reader: Reader = Files()
    sample: dict[str, Typed] = Field(default={}, exclude_if=lambda fields: not fields)
    """What the fields of a sample are, if the declaration says so."""
    allow_nan: tuple[str, ...] = Field(default=(), exclude_if=lambda fields: not fields)
    """Fields that may hold NaN and infinities: in any other, publication rejects them."""
    twin: dict[str, Drawn] = Field(default={}, exclude_if=lambda fields: not fields)
    """What the fields of its synthetic dataset are. It is no part of a published version: it can be said, and mended, afterwards."""


class Draft(Described):
    """A dataset before it is published: the rest follows from its files."""


class Dataset(Described):
    """A named, versioned, immutable set of files."""

    version: Annotated[Count, Field(ge=1)]
    manifest: Digest
    """Names every file and where its bytes lie in packs: what is fetched."""
    content: Digest
    """Names every file and nothing else: what a run's result depends on. Repacking leaves it as it is."""
    files: Count
    bytes: Count

    @property
    def title(self) -> str:
        """Name and version, as they are typed: `digits@1`."""
        return f"{self.name}@{self.version}"

    @property
    def published(self) -> Dataset:
        """What of it a store knows: all but the twin."""
        return self.model_copy(update={"twin": {}})


def declaration(name: str, *, root: Path) -> Path:
    """Where `name` is declared in the checkout `root`."""
    return root / FOLDER / f"{name}.toml"


def is_declared(name: str, *, root: Path) -> bool:
    """Whether `name` is a dataset's name, and declared in the checkout `root`."""
    return re.fullmatch(NAME, name) is not None and declaration(name, root=root).is_file()


def dataset_names(*, root: Path) -> list[str]:
    """All names declared in the checkout `root`, sorted."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.toml"))


def load_dataset(name: str, *, root: Path) -> Dataset:
    """The declared dataset `name`. Raises `DatasetError` when it is not declared, `DocumentError` when its file cannot be read."""
    path = declaration(name, root=root)
    if not is_declared(name, root=root):
        known = dataset_names(root=root)
        base, numbered, number = name.partition("@")
        if numbered and is_declared(base, root=root):
            raise _numbered(load_dataset(base, root=root), number)
        raise DatasetError(
            f"dataset {short(name)!r} is not declared in {root / FOLDER}", hint=did_you_mean(name, known)
        )
    dataset = read_toml(path, Dataset)
    if dataset.name != name:
        hint = "name the file after the dataset"
        raise DatasetError(f"{path} declares a dataset named {dataset.name!r}; expected {name!r}", hint=hint)
    return dataset


def readable_datasets(*, root: Path) -> tuple[list[Dataset], dict[str, str]]:
    """The declared datasets; and why the others cannot be read, by name."""
    found: list[Dataset] = []
    faults: dict[str, str] = {}
    for name in dataset_names(root=root):
        try:
            found.append(load_dataset(name, root=root))
        except RepriseError as fault:
            faults[name] = fault.message
    return found, faults


def _numbered(dataset: Dataset, number: str) -> DatasetError:
    """Word a name with a version's number, which only the declaration gives."""
    file = f"{FOLDER}/{dataset.name}.toml"
    said = f"dataset {dataset.name}@{number}: expected a name without a version; {file} declares the version, {dataset.title}"
    other = f"; for another version: `git log {file}`, then `git checkout COMMIT {file}`"
    return DatasetError(said, hint=f"write {dataset.name}{'' if number == str(dataset.version) else other}")


def parse_dataset(text: bytes, *, where: str) -> Dataset:
    """A version's document as it stands in the store."""
    return parse_json(text, Dataset, where=where)


def declared(dataset: Dataset) -> str:
    """The text of `datasets/<name>.toml`; the same dataset always gives the same text."""
    said = dataset.model_dump(mode="json", exclude_none=True)
    body = tomli_w.dumps({key: said.pop(key) for key in _FIRST} | said)
    return _HEAD + _NUMBERS.sub(lambda found: f"[{', '.join(found[1].replace(',', '').split())}]", body)


_FIRST: Final = ("name", "version", "manifest", "content", "files", "bytes")
_HEAD: Final = """\
# Written by `reprise data publish`: the manifest's digest names every byte.
# To change license, source, splits or reader, edit them here and publish again: the version goes up.
"""
