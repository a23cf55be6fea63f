"""References to datasets in strings, as `{dataset:NAME}`; a reference stands for the folder of the dataset's files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DATASET: Final = re.compile(r"\{dataset:([a-z0-9][a-z0-9_.-]*)\}")


ROLES: Final = ("train", "val", "test")
"""The splits that can come from different datasets."""


def datasets_by_role(value: str | Mapping[Any, str]) -> dict[str, list[str]]:
    """Return the datasets that the setting `dataset` names, the dataset of train first, with the splits that each provides.

    A single dataset provides all of its splits; its list is empty.

    >>> datasets_by_role("digits"), datasets_by_role({"train": "a", "val": "a", "test": "b"})
    ({'digits': []}, {'a': ['train', 'val'], 'b': ['test']})
    """
    if isinstance(value, str):
        return {value: []}
    return {
        name: [role for role in ROLES if value[role] == name] for name in dict.fromkeys(value[role] for role in ROLES)
    }


def datasets_in(values: Mapping[str, Any]) -> list[str]:
    """Return the names of the datasets to which the strings in `values` refer, in order."""
    texts = [text for value in values.values() for text in _texts(value)]
    return list(dict.fromkeys(name for text in texts for name in _DATASET.findall(text)))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str | Path):
        yield str(value)
    elif isinstance(value, list | tuple | set):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, dict):
        yield from _texts([*value, *value.values()])


def with_folders(value: Any, folders: Mapping[str, Path]) -> Any:
    """Return a value in which each reference to a dataset is replaced with the dataset's folder."""
    if isinstance(value, str):
        return _DATASET.sub(lambda found: str(folders[found[1]]), value)
    if isinstance(value, Path):
        return Path(with_folders(str(value), folders))
    if isinstance(value, list | tuple):
        return type(value)(with_folders(each, folders) for each in value)
    if isinstance(value, dict):
        return {key: with_folders(each, folders) for key, each in value.items()}
    return value
