"""Swap ingredients between two runs: list the ingredients that can be swapped, and build a run of A with some ingredients of B.

A lock is swapped with its image, and a dataset's declaration with the dataset. Devices cannot be swapped; images cannot be swapped without
a container engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import RunError
from trainer.comparison.attribution import Swap
from trainer.comparison.rerun import rerun
from trainer.runs.record import identity_of
from trainer.source.capture import SourceBundle, bundle_digest
from trainer.source.description import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import JsonValue

    from trainer.comparison.attribution import Swaps
    from trainer.runs.record import Record
    from trainer.source.capture import SourceFile

LOCK: Final = "uv.lock"
_LAUNCH: Final = ("determinism", "threads")
_NOTHING: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A run's record and source bundle, from which a hybrid run is built."""

    record: Record
    bundle: SourceBundle


def swaps(a: Made, b: Made, *, images: bool) -> Iterator[Swap]:
    """Yield every ingredient that differs and can be swapped, settings first; the image only if `images` is true."""
    one, other = _values(a.record), _values(b.record)
    for name in sorted(one.keys() | other.keys()):
        if one.get(name, _NOTHING) != other.get(name, _NOTHING):
            yield Swap("setting", name)
    for name in sorted(_contents(a) | _contents(b)):
        if _declaration(a.bundle, name) != _declaration(b.bundle, name):
            yield Swap("dataset", name)
    aside = _aside(a, b)
    code = ({file.path: file.sha256 for file in side.bundle.files if file.path not in aside} for side in (a, b))
    if next(code) != next(code) or a.record.ingredients.experiment != b.record.ingredients.experiment:
        yield Swap("source")
    if images and a.record.ingredients.layers != b.record.ingredients.layers:
        yield Swap("image")


def unswappable(a: Made, b: Made, *, images: bool) -> Iterator[str]:
    """Yield one line per difference that cannot be swapped."""
    one, other = a.record.ingredients, b.record.ingredients
    if (one.device.accelerator, one.device.world_size) != (other.device.accelerator, other.device.world_size):
        yield f"device: {one.device.world_size} x {one.device.accelerator}, {other.device.world_size} x {other.device.accelerator}"
    if not images and one.layers != other.layers:
        yield "image: no engine is reachable, so all runs use this environment"


def hybrid(a: Made, b: Made, swapped: Swaps) -> Made:
    """Return A with these ingredients of B. Raise `RunError` if neither source declares a dataset that the run needs."""
    images = Swap("image") in swapped
    code = (b if Swap("source") in swapped else a).record.ingredients
    settings, execution, origins = _settings(a.record, b.record, swapped)
    bundle = _bundle(a, b, swapped)
    known = {**b.record.ingredients.datasets, **a.record.ingredients.datasets}
    known |= {
        swap.name: b.record.ingredients.datasets[swap.name]
        for swap in swapped
        if swap.kind == "dataset" and swap.name in b.record.ingredients.datasets
    }
    wanted = settings.get("dataset")
    if not isinstance(wanted, str) or wanted not in known:
        raise RunError(f"dataset {wanted!a} is not one of the two runs'", hint="compare runs that name their dataset")
    image = (b if images else a).record
    ingredients = a.record.ingredients.model_copy(
        update={
            "experiment": code.experiment,
            "settings": settings,
            "source": bundle.digest,
            "lock": image.ingredients.lock,
            "requirements": image.ingredients.requirements,
            "layers": image.ingredients.layers,
            "datasets": {wanted: known[wanted]},
            "determinism": _held(a.record, b.record, swapped),
        }
    )
    around = a.record.circumstances.model_copy(
        update={"image": image.circumstances.image, "execution": execution, "origins": origins}
    )
    record = a.record.model_copy(
        update={"ingredients": ingredients, "circumstances": around, "identity": identity_of(ingredients)}
    )
    return Made(record=record, bundle=bundle)


def _values(record: Record) -> dict[str, JsonValue]:
    """Return every setting that affects the result, including those of the launch."""
    held = record.ingredients.determinism
    return record.ingredients.settings | {"determinism": held.level, "threads": held.threads}


def _settings(
    a: Record, b: Record, swapped: Swaps
) -> tuple[dict[str, JsonValue], dict[str, JsonValue], dict[str, str]]:
    """Return settings, execution settings and origins of A, with the swapped settings of B."""
    settings, origins = dict(a.ingredients.settings), dict(a.circumstances.origins)
    for name in (swap.name for swap in swapped if swap.kind == "setting" and swap.name not in _LAUNCH):
        settings.pop(name, None)
        if name in b.ingredients.settings:
            settings[name] = b.ingredients.settings[name]
            origins[name] = "record"
    code = b if Swap("source") in swapped else a
    known = rerun(code).settings.keys() | code.circumstances.execution.keys() | code.ingredients.settings.keys()
    execution = {name: value for name, value in a.circumstances.execution.items() if name in known}
    return settings, execution, origins


def _held(a: Record, b: Record, swapped: Swaps) -> Any:
    changed: dict[str, Any] = {}
    if Swap("setting", "determinism") in swapped:
        changed |= {"level": b.ingredients.determinism.level, "capabilities": b.ingredients.determinism.capabilities}
    if Swap("setting", "threads") in swapped:
        changed["threads"] = b.ingredients.determinism.threads
    return a.ingredients.determinism.model_copy(update=changed)


def _bundle(a: Made, b: Made, swapped: Swaps) -> SourceBundle:
    """Return the hybrid's source: the code of one run, the lock that belongs to the image, and each dataset's declaration."""
    code = b if Swap("source") in swapped else a
    aside = _aside(a, b)
    files = {file.path: file for file in code.bundle.files if file.path not in aside}
    for path in aside:
        swap = Swap("image") if path == LOCK else Swap("dataset", path.removeprefix("datasets/").removesuffix(".toml"))
        mine, other = (a, b) if swap not in swapped else (b, a)
        if file := _file(mine.bundle, path) or _file(other.bundle, path):
            files[path] = file
    whole = tuple(sorted(files.values(), key=lambda file: file.path))
    size = sum(len(file.data) for file in whole)
    return SourceBundle(
        digest=bundle_digest(whole), source=Source(how="baked", files=len(whole), bytes=size), files=whole
    )


def _aside(a: Made, b: Made) -> set[str]:
    """Return the files that belong to an ingredient other than the code."""
    return {LOCK, *(f"datasets/{name}.toml" for name in _contents(a) | _contents(b))}


def _contents(made: Made) -> set[str]:
    return set(made.record.ingredients.datasets)


def _declaration(bundle: SourceBundle, name: str) -> str | None:
    file = _file(bundle, f"datasets/{name}.toml")
    return file.sha256 if file else None


def _file(bundle: SourceBundle, path: str) -> SourceFile | None:
    return next((file for file in bundle.files if file.path == path), None)
