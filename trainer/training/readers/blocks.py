"""Blocks of samples that a reader passes to an inspection, including the samples that cannot be read."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trainer.base.errors import DatasetError, RepriseError
from trainer.data.inspection import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

Values = np.ndarray[Any, Any]
Rows = np.ndarray[Any, np.dtype[np.int64]]
_AHEAD: Final = 64
"""Samples that are read ahead of the inspection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some samples: their numbers, and an array `[rows, ...]` per field; or the reason that they cannot be read."""

    rows: Rows
    fields: dict[str, Values] = field(default_factory=dict)
    fault: Fault | Callable[[int], Fault] | None = None
    """The reason that none of these samples can be read, or a function from the number of a sample to its reason."""


def single_blocks(read: Callable[[int], dict[str, Tensor]], rows: Rows, name: Callable[[int], str]) -> Iterator[Block]:
    """Read samples one by one in several threads: decoders release the GIL."""

    def one(row: int) -> Block:
        numbers = np.array([row], dtype=np.int64)
        try:
            return Block(rows=numbers, fields={field: value[None].numpy() for field, value in read(row).items()})
        except DatasetError as fault:
            return Block(rows=numbers, fault=fault_of(name(row), fault))
        except RepriseError:
            raise
        except Exception as fault:  # noqa: BLE001 - decoders raise many exception types; the error names the file
            said = DatasetError(f"{name(row)} cannot be read: {type(fault).__name__}: {fault}", hint=REPLACE)
            return Block(rows=numbers, fault=fault_of(name(row), said))

    waiting = iter(rows)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        while some := list(islice(waiting, _AHEAD)):
            yield from pool.map(one, map(int, some))


REPLACE: Final = "replace it, and publish a new version"


def fault_of(name: str, fault: DatasetError) -> Fault:
    """Convert the error for a sample to a `Fault`."""
    return Fault(name=name, said=fault.message, hint=fault.hint)
