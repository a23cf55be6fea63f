"""Differences between the ingredients and circumstances of two runs: candidates for the cause of different results.

Only runs in which one ingredient at a time is swapped show which candidate is the cause.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from trainer.data.references import ROLES
from trainer.runs.record import WEIGHTS_ROLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trainer.runs.record import Distribution, Ingredients, Record

ABSENT: Final = "absent"
SOURCE: Final = "source"
UNIMPORTED: Final = "source, in files that neither run imported"


class DifferenceKind(StrEnum):
    """The kind of a difference: ingredients in display order, then circumstances."""

    EXPERIMENT = "experiment"
    SETTING = "setting"
    DATASET = "dataset"
    INITIAL = "initial weights"
    CODE = "code"
    DETERMINISM = "determinism"
    DEVICE = "device"
    LOCK = "lock"
    LAYER = "image layer"
    RESUMED = "changed when resumed"
    PYTHON = "Python"
    PACKAGE = "package"
    SYSTEM = "system package"
    LIBRARY = "library loaded"
    VARIABLE = "variable"
    DRIFT = "drift"
    HARDWARE = "hardware"
    EXECUTION = "execution setting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One difference: the value in each run, its origin, and its details if they were compared."""

    kind: DifferenceKind
    name: str
    a: str
    b: str
    ingredient: bool
    """Whether an ingredient differs; a circumstance should not affect the result."""
    from_a: str | None = None
    from_b: str | None = None
    inside: tuple[str, ...] = ()
    """Details: the lines of a diff, or the files of a dataset that differ."""

    @property
    def title(self) -> str:
        """The kind and the name of the difference; a word that ends the kind and begins the name is not repeated.

        >>> [Candidate(kind=kind, name=name, a="", b="", ingredient=True).title
        ...  for kind, name in ((DifferenceKind.EXPERIMENT, "experiment"), (DifferenceKind.SETTING, "seed"),
        ...                     (DifferenceKind.LAYER, "layer 2"))]
        ['experiment', 'setting seed', 'image layer 2']
        """
        kind, _, last = self.kind.rpartition(" ")
        return f"{kind} {self.name}".strip() if self.name.split(" ")[0] == last else f"{self.kind} {self.name}"


def candidates(a: Record, b: Record) -> list[Candidate]:
    """Return every difference that could affect the result, ingredients first; names of machines and runs, and times, are ignored."""
    return [*_ingredients(a, b), *_circumstances(a, b)]


def _ingredients(a: Record, b: Record) -> Iterator[Candidate]:
    one, other = a.ingredients, b.ingredients
    yield from _compare(DifferenceKind.EXPERIMENT, {"experiment": one.experiment}, {"experiment": other.experiment})
    yield from _settings(a, b)
    has_roles = any(_roles(side) for side in (one, other))
    yield from _compare(DifferenceKind.DATASET, *(_datasets(side, by_role=has_roles) for side in (one, other)))
    yield from _compare(
        DifferenceKind.INITIAL, *({"weights": side.initial_weights or "the net's own"} for side in (one, other))
    )
    if not imported_equal(a, b):
        yield from _compare(DifferenceKind.CODE, {SOURCE: one.source}, {SOURCE: other.source})
    yield from _compare(DifferenceKind.DETERMINISM, *(_determinism(record) for record in (a, b)))
    devices = (side.device.model_dump(exclude_none=True) for side in (one, other))
    yield from _compare(
        DifferenceKind.DEVICE, *({name: str(value) for name, value in device.items()} for device in devices)
    )
    yield from _compare(DifferenceKind.LOCK, *_locks(one, other))
    yield from _compare(DifferenceKind.LAYER, _layers(one.layers), _layers(other.layers))


def _roles(side: Ingredients) -> set[str]:
    return {role for each in side.datasets.values() for role in each.roles} - {WEIGHTS_ROLE}


def _datasets(side: Ingredients, *, by_role: bool) -> dict[str, str]:
    """Return the content and version of each dataset by name, or by role if `by_role` is true."""
    texts = {name: f"{each.content} (version {each.version})" for name, each in side.datasets.items()}
    if not by_role:
        return texts
    roles = {name: each.roles or [*ROLES] for name, each in side.datasets.items()}
    return {f"of {role}": f"{name}, {texts[name]}" for name, each in roles.items() for role in each}


def _circumstances(a: Record, b: Record) -> Iterator[Candidate]:
    """Yield differences of circumstances; inventories are compared only if both runs recorded them."""
    one, other = a.circumstances, b.circumstances
    stock, stock_b = one.inventory, other.inventory
    if imported_equal(a, b):
        yield from _circumstance(DifferenceKind.CODE, *({UNIMPORTED: side.ingredients.source} for side in (a, b)))
    yield from _circumstance(DifferenceKind.RESUMED, *(dict.fromkeys(side.changed, "changed") for side in (one, other)))
    yield from _circumstance(DifferenceKind.PYTHON, {"Python": stock.python}, {"Python": stock_b.python})
    if stock.distributions and stock_b.distributions:
        yield from _packages(stock.distributions, stock_b.distributions)
    if stock.system and stock_b.system:
        yield from _circumstance(DifferenceKind.SYSTEM, stock.system, stock_b.system)
    if stock.libraries and stock_b.libraries:
        yield from _circumstance(DifferenceKind.LIBRARY, _libraries(stock.libraries), _libraries(stock_b.libraries))
    yield from _circumstance(DifferenceKind.VARIABLE, one.variables, other.variables)
    switched = (dict.fromkeys(side.determinism_at_end or [], "switched by the net") for side in (one, other))
    yield from _circumstance(DifferenceKind.DETERMINISM, *switched)
    yield from _circumstance(DifferenceKind.DRIFT, *(dict.fromkeys(side.drift, "drifted") for side in (one, other)))
    yield from _circumstance(DifferenceKind.HARDWARE, _hardware(a), _hardware(b))
    yield from _circumstance(DifferenceKind.EXECUTION, *(_as_json(side.execution) for side in (one, other)))


def imported_equal(a: Record, b: Record) -> bool:
    """Return whether two runs imported equal files, so that their sources differ at most in files that neither imported."""
    one, other = a.circumstances.imported, b.circumstances.imported
    return one is not None and other is not None and one.digest == other.digest


def _settings(a: Record, b: Record) -> Iterator[Candidate]:
    one, other = (_as_json(record.ingredients.settings) for record in (a, b))
    for difference in _compare(DifferenceKind.SETTING, one, other):
        yield Candidate(
            kind=difference.kind,
            name=difference.name,
            a=difference.a,
            b=difference.b,
            ingredient=True,
            from_a=a.circumstances.origins.get(difference.name),
            from_b=b.circumstances.origins.get(difference.name),
        )


def _packages(a: Mapping[str, Distribution], b: Mapping[str, Distribution]) -> Iterator[Candidate]:
    """Yield packages that exist in one run only, or whose versions or, for equal versions, RECORD digests differ."""
    one, other = ({name: each.version for name, each in side.items()} for side in (a, b))
    same_version = {name for name in a.keys() & b.keys() if a[name].version == b[name].version}
    altered = {
        name for name in same_version if None not in (digests := {a[name].record, b[name].record}) and len(digests) > 1
    }
    for side, versions in ((a, one), (b, other)):
        versions.update({name: f"{versions[name]}, files {(side[name].record or '')[:19]}" for name in altered})
    yield from _circumstance(DifferenceKind.PACKAGE, one, other)


def _determinism(record: Record) -> dict[str, str]:
    determinism = record.ingredients.determinism
    return {"level": determinism.level, "threads": str(determinism.threads), **determinism.capabilities}


def _locks(one: Ingredients, other: Ingredients) -> tuple[dict[str, str], dict[str, str]]:
    """Return the digests of the environments' requirements if both records have them, else of the whole locks."""
    if one.requirements and other.requirements:
        return {"uv.lock": one.requirements}, {"uv.lock": other.requirements}
    return {"uv.lock": one.lock or "unknown"}, {"uv.lock": other.lock or "unknown"}


def _layers(layers: list[str] | None) -> dict[str, str]:
    return (
        {"layers": "unknown"}
        if layers is None
        else {f"layer {number}": layer for number, layer in enumerate(layers, 1)}
    )


def _libraries(mapped: Mapping[str, int]) -> dict[str, str]:
    """Map file names to sizes; the folder of a library does not matter."""
    return {PurePosixPath(path).name: f"{size} bytes" for path, size in mapped.items()}


def _hardware(record: Record) -> dict[str, str]:
    host = record.circumstances.host
    facts = {
        "CPU": host.cpu,
        "CPU flags": host.cpu_flags,
        "driver": host.driver,
        "CUDA of the driver": host.cuda_driver,
    }
    gpus = {f"GPU {number}": gpu.name for number, gpu in enumerate(host.gpus)}
    return {name: value for name, value in facts.items() if value is not None} | gpus


def _as_json(values: Mapping[str, object]) -> dict[str, str]:
    """Return values as JSON, at full precision."""
    return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}


def _compare(
    kind: DifferenceKind, a: Mapping[str, str], b: Mapping[str, str], *, ingredient: bool = True
) -> Iterator[Candidate]:
    for name in sorted({*a, *b}):
        one, other = a.get(name, ABSENT), b.get(name, ABSENT)
        if one != other:
            yield Candidate(kind=kind, name=name, a=one, b=other, ingredient=ingredient)


def _circumstance(kind: DifferenceKind, a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[Candidate]:
    yield from _compare(kind, a, b, ingredient=False)
