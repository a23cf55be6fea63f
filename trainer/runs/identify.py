"""Collecting the ingredients and circumstances of a run before its record is opened.

This module does not need torch: facts that only the training process has are passed as `RunFacts`.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from trainer.base.digest import digest_of_document, digest_of_file
from trainer.base.document import json_value
from trainer.base.errors import DocumentError, EnvironmentNameError
from trainer.base.plain_text import read_bytes, read_text
from trainer.data.references import datasets_by_role
from trainer.environments import installed_files
from trainer.environments.declaration import load_environment, requirements_of
from trainer.environments.inventory import drift, live
from trainer.runs.hardware import read_host
from trainer.runs.image_claim import claim_image
from trainer.runs.record import (
    WEIGHTS_ROLE,
    Circumstances,
    DatasetIngredient,
    Determinism,
    Device,
    Imported,
    Ingredients,
    Inventory,
    Timing,
)
from trainer.runs.run_id import is_run_id
from trainer.settings.determinism import Level, capabilities, threads_at, variables
from trainer.settings.fields import PURPOSE, RETEST, LaunchSettings, Role, roles, settings_document
from trainer.settings.shards import SUM, shards_of
from trainer.source.capture import CELLS, NOTEBOOK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trainer.data.declaration import Dataset
    from trainer.environments.inventory import InventoryData
    from trainer.runs.handoff import FrozenSource, Launch
    from trainer.runs.initial_weights import InitialWeights
    from trainer.settings.origins import Resolved


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """The ingredients and circumstances known before training."""

    ingredients: Ingredients
    circumstances: Circumstances


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The facts that the training process passes to `identify`."""

    launch: Launch
    frozen: FrozenSource
    resolved: Resolved[Any]
    datasets: tuple[Dataset, ...]
    """The datasets that the settings name, without the dataset of initial weights."""
    initial: InitialWeights | None = None
    """The initial weights from a parent run; `None` without a parent run."""
    weights: Dataset | None = None
    """The dataset of initial weights; `None` if no dataset provides them."""

    @property
    def every_dataset(self) -> tuple[Dataset, ...]:
        """The datasets of samples and of weights."""
        return (*self.datasets, *([self.weights] if self.weights else []))


def identify(
    facts: RunFacts, *, source: Path, folder: Path, environ: Mapping[str, str], baked_inventory: Path
) -> Identified:
    """Collect the ingredients and circumstances of the run in `folder`, whose frozen source is `source`."""
    claim = claim_image(environ, run=folder)
    lock = source / "uv.lock"
    inventory = live()
    settings = facts.resolved.settings
    ingredients = Ingredients(
        experiment=facts.launch.experiment,
        kind="script" if facts.launch.is_script else None,
        settings=_values_of(facts, Role.RESULT),
        source=facts.frozen.digest,
        lock=digest_of_file(lock) if lock.is_file() else None,
        requirements=_requirements(claim.image.environment, source=source),
        layers=claim.layers,
        datasets={dataset.name: _ingredient(dataset, facts) for dataset in facts.every_dataset},
        initial_weights=facts.initial.sha256 if facts.initial else None,
        determinism=_determinism(settings),
        device=_device(settings, facts.launch.device),
    )
    circumstances = Circumstances(
        command=facts.launch.command,
        source=facts.frozen.source,
        image=claim.image,
        host=read_host(name=environ.get("REPRISE_HOST")),
        inventory=Inventory.model_validate(inventory),
        drift=drifted(inventory, source=source, baked_inventory=baked_inventory),
        retest_of=original if is_run_id(original := environ.get(RETEST, "")) else None,
        parent=facts.initial.parent if facts.initial else None,
        purpose=purpose if re.fullmatch("[a-z]{1,20}", purpose := environ.get(PURPOSE, "")) else None,
        notebook=CELLS if NOTEBOOK in environ and (source / CELLS).is_file() else None,
        origins={name: str(origin) for name, origin in facts.resolved.origins.items()},
        settings_files=facts.resolved.files,
        execution=_values_of(facts, Role.EXECUTION) | _values_of(facts, Role.LAUNCH),
        manifests={dataset.name: dataset.manifest for dataset in facts.every_dataset},
        variables=_variables(settings),
        timing=Timing(started=facts.launch.started),
    )
    return Identified(ingredients=ingredients, circumstances=circumstances)


def _ingredient(dataset: Dataset, facts: RunFacts) -> DatasetIngredient:
    splits = roles_in(facts.resolved.settings).get(dataset.name, [])
    roles = [*splits, *([WEIGHTS_ROLE] if dataset == facts.weights else [])]
    return DatasetIngredient(version=dataset.version, content=dataset.content, roles=roles)


def roles_in(settings: LaunchSettings) -> dict[str, list[str]]:
    """Return the splits that each dataset provides; an empty dictionary if all samples come from one dataset."""
    value = settings.value_of("dataset") if "dataset" in type(settings).__pydantic_fields__ else None
    return datasets_by_role(value) if isinstance(value, dict) else {}


def drifted(inventory: InventoryData, *, source: Path, baked_inventory: Path) -> list[str]:
    """Return the differences of this process from its image and the lock, and of its files from the installed files, one per line."""
    lock = source / "uv.lock"
    baked = json_value(read_bytes(baked_inventory), where=str(baked_inventory)) if baked_inventory.is_file() else None
    text = read_text(lock) if lock.is_file() else None
    files = installed_files.differences(inventory["roots"], source=str(source))
    return [
        *drift(baked, inventory, lock=text),
        *files,
        *installed_files.foreign_libraries(inventory["libraries"], inventory["roots"]),
    ]


def _requirements(environment: str | None, *, source: Path) -> str | None:
    """Return the digest of the locked packages of the image's environment; `None` if the source does not declare the environment."""
    if environment is None:
        return None
    try:
        return requirements_of(load_environment(environment, root=source), root=source)
    except (DocumentError, EnvironmentNameError):
        return None


_ONLY_IF_SET: Final = frozenset({"init_from", "init_map", "init_allow", "shards", "shuffle_window", "strategy"})
"""Settings that are recorded only if they are set, so that a run without them has the same identity as in versions without them."""


def _values_of(facts: RunFacts, role: Role) -> dict[str, Any]:
    settings = facts.resolved.settings
    names = [name for name, role_of_name in roles(type(settings)).items() if role_of_name is role]
    return settings_document(settings, [name for name in names if name not in _ONLY_IF_SET or settings.value_of(name)])


def _determinism(settings: LaunchSettings) -> Determinism:
    level: Level = settings.value_of("determinism")
    threads = threads_at(level, settings.value_of("threads"))
    return Determinism(level=level.value, threads=threads, capabilities=capabilities(level))


def _variables(settings: LaunchSettings) -> dict[str, str]:
    level: Level = settings.value_of("determinism")
    return variables(level, threads=threads_at(level, settings.value_of("threads")))


def _device(settings: LaunchSettings, device: Literal["cpu", "gpu"]) -> Device:
    is_off = settings.value_of("determinism") is Level.OFF
    names = type(settings).__pydantic_fields__
    shards = shards_of(settings.value_of("shards"), devices=settings.value_of("devices"))
    strategy = settings.value_of("strategy")
    return Device(
        accelerator="cuda" if device == "gpu" else "cpu",
        world_size=shards if strategy or shards == 1 else None,
        parallelism=strategy,
        shards=None if shards == 1 else shards,
        sum=None if shards == 1 else SUM,
        precision=settings.value_of("precision") if "precision" in names else None,
        workers=settings.value_of("workers") if is_off and "workers" in names else None,
    )


def read_imported(root: Path) -> Imported | None:
    """Return the files below `root` that this process has imported; `None` if a file cannot be read."""
    paths = sorted(_paths(root))
    try:
        digests = {path: digest_of_file(root / path) for path in paths}
    except OSError:
        return None
    return Imported(digest=digest_of_document(digests), files=paths)


def _paths(root: Path) -> set[str]:
    return {
        file.relative_to(root).as_posix()
        for file in _files(list(sys.modules.values()))
        if file.is_relative_to(root) and not file.is_relative_to(sys.prefix)
    }


def _files(modules: Iterable[object]) -> Iterable[Path]:
    for module in modules:
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str):
            yield Path(file)
