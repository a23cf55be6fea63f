"""Find which differing ingredients cause two runs to diverge, by swapping them.

A set of swaps is tested by a hybrid: a run of A with the swapped ingredients taken from B. A hybrid matches A, matches B, matches neither,
or cannot be run. Results are based only on runs that swap ingredients, in both directions. A lock is swapped together with its image, and a
dataset's declaration together with the dataset. Devices cannot be swapped; images cannot be swapped without a container engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal

from trainer.base.errors import RunError
from trainer.comparison.rerun import rerun_arguments
from trainer.data.references import ROLES, datasets_by_role
from trainer.runs.record import WEIGHTS_ROLE, identity_of
from trainer.source.capture import SourceBundle, bundle_digest
from trainer.source.description import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pydantic import JsonValue

    from trainer.runs.record import DatasetIngredient, Record
    from trainer.source.capture import SourceFile

LOCK: Final = "uv.lock"
_LAUNCH: Final = ("determinism", "threads")
_MISSING: Final = object()


class MatchedRun(StrEnum):
    """The run that a hybrid matches in the steps that were compared."""

    A = "matches A"
    B = "matches B"
    OTHER = "matches neither"
    NONE = "could not be run"
    """The hybrid cannot be run, for example if a setting of B needs B's source. This is not evidence for or against the swap."""


@dataclass(frozen=True, slots=True, order=True)
class Swap:
    """An ingredient that differs and can be swapped."""

    kind: Literal["setting", "source", "dataset", "image"]
    name: str = ""

    def __str__(self) -> str:
        """Return the kind and the name.

        >>> str(Swap("setting", "learning_rate")), str(Swap("source"))
        ('setting learning_rate', 'source')
        """
        return f"{self.kind} {self.name}".strip()


Swaps = frozenset[Swap]
NONE: Final[Swaps] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """The result of the swaps."""

    sets: tuple[Swaps, ...] = ()
    """The smallest sets of swaps that make A match B; no proper subset of a set does."""
    confirmed: bool = False
    """Whether B matches A if the first set is swapped back, so that no other ingredient has an effect."""
    matches: dict[Swap, MatchedRun] = field(default_factory=dict)
    """The result of swapping a single ingredient into A, for each ingredient."""
    failed: Literal["A", "B"] | None = None
    """The run that could not be reproduced unchanged; nothing can be attributed in this case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInputs:
    """A run's record and source bundle."""

    record: Record
    bundle: SourceBundle


def attribute(swaps: Sequence[Swap], run_hybrid: Callable[[Swaps], MatchedRun]) -> Attribution:
    """Find the smallest sets of `swaps` that cause the difference. `run_hybrid` is called at most once per set."""
    results: dict[Swaps, MatchedRun] = {}

    def match(swapped: Swaps) -> MatchedRun:
        if swapped not in results:
            results[swapped] = run_hybrid(swapped)
        return results[swapped]

    every = frozenset(swaps)
    if match(NONE) is not MatchedRun.A:
        return Attribution(failed="A")
    if match(every) is not MatchedRun.B:
        return Attribution(failed="B")
    matches = {swap: match(frozenset({swap})) for swap in swaps}
    sets = tuple(frozenset({swap}) for swap, result in matches.items() if result is MatchedRun.B)
    if not sets:  # if the swaps that have an effect alone make A match B together, bisect only these
        effective = frozenset(swap for swap, result in matches.items() if result is not MatchedRun.A)
        start = effective if len(effective) > 1 and match(effective) is MatchedRun.B else every
        sets = (smallest(start, lambda some: match(some) is MatchedRun.B),)
    return Attribution(sets=sets, confirmed=match(every - sets[0]) is MatchedRun.A, matches=matches)


def smallest(swaps: Swaps, is_enough: Callable[[Swaps], bool]) -> Swaps:
    """Return a minimal subset of `swaps` for which `is_enough` is true, by bisection; `is_enough(swaps)` must be true.

    Zeller and Hildebrandt, Simplifying and isolating failure-inducing input, IEEE Transactions on Software Engineering 28 (2002), 183-200.
    """
    parts, rest = 2, sorted(swaps)
    while len(rest) > 1:
        chunks = [frozenset(rest[start::parts]) for start in range(parts)]
        whole = frozenset(rest)
        if subset := next((chunk for chunk in chunks if len(chunk) < len(whole) and is_enough(chunk)), None):
            rest, parts = sorted(subset), 2
        elif subset := next((whole - chunk for chunk in chunks if parts > 2 and is_enough(whole - chunk)), None):  # noqa: PLR2004 - of two halves, each is the complement of the other
            rest, parts = sorted(subset), max(parts - 1, 2)
        elif parts >= len(rest):
            break
        else:
            parts = min(len(rest), 2 * parts)
    return frozenset(rest)


def possible_swaps(a: RunInputs, b: RunInputs, *, images: bool) -> Iterator[Swap]:
    """Yield every ingredient that differs and can be swapped, settings first; the image only if `images` is true."""
    one, other = _values(a.record), _values(b.record)
    for name in sorted(one.keys() | other.keys()):
        if one.get(name, _MISSING) != other.get(name, _MISSING):
            yield Swap("setting", name)
    digests = [{file.path: file.sha256 for file in run.bundle.files} for run in (a, b)]
    excluded = _files_of_other_ingredients(a, b)
    for path in sorted(excluded - {LOCK}):
        if digests[0].get(path) != digests[1].get(path):
            yield _swap_of(path)
    code = [digest.items() - {(path, digest.get(path)) for path in excluded} for digest in digests]
    if code[0] != code[1] or a.record.ingredients.experiment != b.record.ingredients.experiment:
        yield Swap("source")
    if images and a.record.ingredients.layers != b.record.ingredients.layers:
        yield Swap("image")


def unswappable(a: RunInputs, b: RunInputs, *, images: bool) -> Iterator[str]:
    """Yield one line per difference that cannot be swapped."""
    one, other = a.record.ingredients, b.record.ingredients
    if one.device.title != other.device.title:
        yield f"device: {one.device.title}; {other.device.title}"
    if one.initial_weights != other.initial_weights:
        yield f"initial weights: {one.initial_weights}, {other.initial_weights}; every run begins with the weights of A"
    if not images and one.layers != other.layers:
        yield "image: no engine is reachable, so all runs use this environment"


def hybrid(a: RunInputs, b: RunInputs, swapped: Swaps) -> RunInputs:
    """Return A with the ingredients in `swapped` taken from B. Raise `RunError` if neither run used a dataset that the settings name."""
    code, image = (b if Swap(kind) in swapped else a for kind in ("source", "image"))
    settings, origins = dict(a.record.ingredients.settings), dict(a.record.circumstances.origins)
    for name in (swap.name for swap in swapped if swap.kind == "setting" and swap.name not in _LAUNCH):
        settings.pop(name, None)
        if name in b.record.ingredients.settings:
            settings[name] = b.record.ingredients.settings[name]
            origins[name] = "record"
    bundle = _bundle(a, b, swapped)
    datasets = _datasets_of(a, b, swapped, settings.get("dataset"))
    ingredients = a.record.ingredients.model_copy(
        update={
            "experiment": code.record.ingredients.experiment,
            "settings": settings,
            "source": bundle.digest,
            "lock": image.record.ingredients.lock,
            "requirements": image.record.ingredients.requirements,
            "layers": image.record.ingredients.layers,
            "datasets": datasets | _weights_of(a.record, b.record, swapped),
            "determinism": _determinism(a.record, b.record, swapped),
        }
    )
    known = code.record.circumstances.execution.keys() | code.record.ingredients.settings.keys()
    known |= rerun_arguments(code.record).settings.keys()
    execution = {name: value for name, value in a.record.circumstances.execution.items() if name in known}
    circumstances = a.record.circumstances.model_copy(
        update={"image": image.record.circumstances.image, "execution": execution, "origins": origins}
    )
    update = {"ingredients": ingredients, "circumstances": circumstances, "identity": identity_of(ingredients)}
    return RunInputs(record=a.record.model_copy(update=update), bundle=bundle)


def _datasets_of(a: RunInputs, b: RunInputs, swapped: Swaps, setting: Any) -> dict[str, DatasetIngredient]:
    """Return the datasets that a hybrid's setting `dataset` names, from B if swapped. Raise `RunError` if neither run used a dataset."""
    is_named = isinstance(setting, str) or (isinstance(setting, dict) and {*setting} == {*ROLES})
    datasets: dict[str, DatasetIngredient] = {}
    for name, roles in datasets_by_role(setting).items() if is_named else ():
        runs = (b, a) if Swap("dataset", name) in swapped else (a, b)
        each = next((one for run in runs if (one := run.record.ingredients.datasets.get(name))), None)
        if each is None:
            raise RunError(f"neither run used dataset {name!a}", hint="compare runs that name their dataset")
        datasets[name] = each.model_copy(update={"roles": roles})
    if not datasets:
        raise RunError(f"neither run used dataset {setting!a}", hint="compare runs that name their dataset")
    return datasets


def _weights_of(a: Record, b: Record, swapped: Swaps) -> dict[str, DatasetIngredient]:
    """Return the datasets of A's initial weights, in B's version if the dataset is swapped."""
    datasets, others = a.ingredients.datasets, b.ingredients.datasets
    return {
        name: others.get(name, each) if Swap("dataset", name) in swapped else each
        for name, each in datasets.items()
        if each.roles == [WEIGHTS_ROLE]
    }


def _values(record: Record) -> dict[str, JsonValue]:
    """Return every setting that affects the result, including `determinism` and `threads`."""
    determinism = record.ingredients.determinism
    return record.ingredients.settings | {"determinism": determinism.level, "threads": determinism.threads}


def _determinism(a: Record, b: Record, swapped: Swaps) -> Any:
    other = b.ingredients.determinism
    update: dict[str, Any] = {}
    if Swap("setting", "determinism") in swapped:
        update = {"level": other.level, "capabilities": other.capabilities}
    if Swap("setting", "threads") in swapped:
        update["threads"] = other.threads
    return a.ingredients.determinism.model_copy(update=update)


def _bundle(a: RunInputs, b: RunInputs, swapped: Swaps) -> SourceBundle:
    """Return the hybrid's source: the code of one run, with the lock of the image's run and the declaration of each dataset's run."""
    excluded = _files_of_other_ingredients(a, b)
    code = b if Swap("source") in swapped else a
    files = {file.path: file for file in code.bundle.files if file.path not in excluded}
    for path in excluded:
        first, second = (b, a) if _swap_of(path) in swapped else (a, b)
        if file := _file(first.bundle, path) or _file(second.bundle, path):
            files[path] = file
    whole = tuple(sorted(files.values(), key=lambda file: file.path))
    source = Source(how="baked", files=len(whole), bytes=sum(len(file.data) for file in whole))
    return SourceBundle(digest=bundle_digest(whole), source=source, files=whole)


def _files_of_other_ingredients(a: RunInputs, b: RunInputs) -> set[str]:
    datasets = a.record.ingredients.datasets.keys() | b.record.ingredients.datasets.keys()
    return {LOCK, *(f"datasets/{name}.toml" for name in datasets)}


def _swap_of(path: str) -> Swap:
    return Swap("image") if path == LOCK else Swap("dataset", path.removeprefix("datasets/").removesuffix(".toml"))


def _file(bundle: SourceBundle, path: str) -> SourceFile | None:
    return next((file for file in bundle.files if file.path == path), None)
