"""Hints about equal samples in one split or in two splits."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from trainer.base.suggestions import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from trainer.training.readers.sample_columns import Marks
    from trainer.training.readers.samples import Rows


def describe_repeated(
    marks: Marks, labels: Marks | None, splits: Mapping[str, Rows], *, name: Callable[[int], str]
) -> Iterator[str]:
    """Yield sentences about equal samples. `splits` holds indices into `marks`; `name` returns the name of the sample at an index."""
    for one, other in combinations(splits, 2):
        yield from _shared(marks, labels, (one, splits[one]), (other, splits[other]), name)
    for split, at in splits.items():
        yield from _repeated(marks, split, at, name)
    if labels is not None and len(splits):
        yield from _contradictory(marks, labels, np.unique(np.concatenate([*splits.values()])), name)


def _shared(
    marks: Marks,
    labels: Marks | None,
    one: tuple[str, Rows],
    other: tuple[str, Rows],
    name: Callable[[int], str],
) -> Iterator[str]:
    (first, here), (second, there) = one, other
    order = here[np.argsort(marks[here], kind="stable")]
    found = np.searchsorted(marks[order], marks[there])
    found[found == len(order)] = 0
    is_equal = marks[order[found]] == marks[there] if len(order) else np.zeros(len(there), dtype=np.bool_)
    if not is_equal.any():
        return
    pairs = there[is_equal], order[found[is_equal]]
    pair = f"for example {name(int(pairs[0][0]))} and {name(int(pairs[1][0]))}"
    differ = "" if labels is None else _with_other_label(int((labels[pairs[0]] != labels[pairs[1]]).sum()))
    count = f"{int(is_equal.sum()):,} of {len(there):,} samples of {second} {_are(int(is_equal.sum()))} also in {first}"
    yield f"{count}, {pair}{differ}"


def _with_other_label(count: int) -> str:
    return f"; {count:,} of them with another label" if count else ""


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _repeated(marks: Marks, split: str, at: Rows, name: Callable[[int], str]) -> Iterator[str]:
    order = at[np.argsort(marks[at], kind="stable")]
    again = np.flatnonzero(marks[order[1:]] == marks[order[:-1]])
    if len(again):
        first, second = sorted((int(order[again[0]]), int(order[again[0] + 1])))
        where = f" of {split}" if split else ""
        count = f"{len(again):,} of {len(at):,} samples{where} {_are(len(again))} equal to an earlier sample"
        yield f"{count}, for example {name(second)} to {name(first)}"


def _contradictory(marks: Marks, labels: Marks, at: Rows, name: Callable[[int], str]) -> Iterator[str]:
    """Yield a sentence about equal samples whose labels differ: no net can learn both labels."""
    order = at[np.lexsort((labels[at], marks[at]))]
    is_same = marks[order[1:]] == marks[order[:-1]]
    odd = np.flatnonzero(is_same & (labels[order[1:]] != labels[order[:-1]]))
    if len(odd):
        groups = len(np.unique(marks[order[odd]]))
        pair = f"for example {name(int(order[odd[0]]))} and {name(int(order[odd[0] + 1]))}"
        yield f"{counted(groups, 'input')} {'occurs' if groups == 1 else 'occur'} with several labels, {pair}"
