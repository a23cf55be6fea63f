"""The initial weights that the setting `init_from` names: a run's, on this machine or in the store, or a dataset's."""

from __future__ import annotations

import os
import shlex
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DatasetError, ResumeError, RunNotFoundError, SettingError
from trainer.base.suggestions import nearest, short
from trainer.cli.find_run import find_run, find_run_id
from trainer.data.declaration import dataset_names, load_dataset
from trainer.data.reader import Weights
from trainer.runs.initial_weights import InitialWeights, stage_parent, staged
from trainer.runs.list import local_ids
from trainer.runs.names import LATEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.data.declaration import Dataset
    from trainer.runs.record import Record
    from trainer.settings.origins import Resolved

_ENDINGS: Final = frozenset({".safetensors", ".pt", ".pth", ".ckpt", ".bin"})
_SETTING: Final = "init_from"
_RUNS: Final = "REPRISE_RUNS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Initial:
    """The settings with the full name in `init_from`, and the run or dataset of this name; both are `None` without `init_from`."""

    resolved: Resolved[Any]
    run: InitialWeights | None = None
    """The weights of a run, whose copy is in the folder of the new run."""
    dataset: Dataset | None = None

    @property
    def title(self) -> str:
        """The name for messages."""
        return f"run {self.run.parent.run}" if self.run else self.dataset.title if self.dataset else ""


def find_initial(resolved: Resolved[Any], *, folder: Path, earlier: Record | None, root: Path = Path()) -> Initial:
    """Find the initial weights of the run in `folder`; `earlier` is the record of its last attempt if it is resumed.

    Weights of another run are copied into the folder; a run that is only in the store is pulled first. Raise `SettingError` for a name that
    is neither a run nor a dataset, `RunError` and `DigestMismatchError` for a run whose weights are missing or damaged, `DatasetError` for
    a dataset without weights, `ResumeError` if a resumed run began with other weights.
    """
    if _SETTING not in type(resolved.settings).__pydantic_fields__:
        return Initial(resolved=resolved)
    if (brought := staged(folder)) is not None:  # staged by the command that reruns a record
        return Initial(resolved=_named(resolved, brought.parent.run), run=brought)
    word: str | None = resolved.settings.init_from
    if earlier is not None:
        return _of_resumed(resolved, word, earlier, root=root)
    if word is None:
        return Initial(resolved=resolved)
    require_no_file(word)
    if (dataset := dataset_named(word, root=root)) is not None:
        return Initial(resolved=resolved, dataset=dataset)
    try:
        with _runs_of(folder):
            run_ids = [run for run in local_ids(folder.parent) if run != folder.name]
            parent = find_run(find_run_id(word, run_ids) if word == LATEST else word)
    except RunNotFoundError as fault:
        raise SettingError(
            f"setting init_from is {short(word)!r}, which is neither a run nor a dataset here: {fault.message}",
            hint=_near(word, root) or fault.hint,
        ) from fault
    return Initial(
        resolved=_named(resolved, parent.record.run), run=stage_parent(parent.folder, parent.record, into=folder)
    )


@contextmanager
def _runs_of(folder: Path) -> Iterator[None]:
    """Find runs beside `folder` during the block, instead of in the runs folder of the frozen source in which this process runs."""
    before = os.environ.get(_RUNS)
    os.environ[_RUNS] = str(folder.parent)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_RUNS]
        else:
            os.environ[_RUNS] = before


def initial_of_rank(resolved: Resolved[Any]) -> Initial:
    """Return the initial weights for a rank other than 0: a dataset's. Weights of a run come from rank 0."""
    word = resolved.settings.value_of(_SETTING)
    return Initial(resolved=resolved, dataset=dataset_named(word, root=Path()) if word else None)


def weights_file(dataset: Dataset) -> str:
    """Return the path of the safetensors file in a dataset of weights. Raise `DatasetError` for another dataset."""
    if isinstance(dataset.reader, Weights):
        return dataset.reader.file
    message = f"setting init_from names dataset {dataset.title}, which holds samples, not weights"
    raise DatasetError(message, hint="name a run; or publish a file: `reprise data publish NAME FILE.safetensors`")


def require_no_file(word: str) -> None:
    """Raise `SettingError` for the path of a file: its bytes would be recorded nowhere."""
    path = Path(word)
    if path.suffix not in _ENDINGS and not path.is_file():
        return
    stem = "".join(letter if letter.isalnum() else "-" for letter in path.stem.lower()).strip("-") or "weights"
    message = f"setting init_from is the file {short(word)!r}, which no store has; expected a run or a dataset"
    command = f"reprise data publish {stem} {shlex.quote(word)}"
    raise SettingError(message, hint=f"publish it once: `{command}`, then --init-from {stem}")


def dataset_named(word: str, *, root: Path) -> Dataset | None:
    """Return the dataset that `init_from` names; `None` if no dataset has this name.

    Raise `DatasetError` for a version that is not declared, and for a dataset without weights.
    """
    name = word.partition("@")[0]
    if name not in dataset_names(root=root):
        if "@" in word:
            load_dataset(word, root=root)
        return None
    dataset = load_dataset(name, root=root)
    if word not in {name, dataset.title}:
        load_dataset(word, root=root)  # explains how to get another version
    weights_file(dataset)
    return dataset


def _of_resumed(resolved: Resolved[Any], word: str | None, earlier: Record, *, root: Path) -> Initial:
    """Return the initial weights that a resumed run began with. Raise `ResumeError` if settings name other weights."""
    before = earlier.circumstances.execution.get(_SETTING)
    if word != before:
        message = (
            f"setting init_from is {word!r}, but run {earlier.run} began with the weights of {before or 'its seed'}"
        )
        raise ResumeError(message, hint="omit --init-from, or start a new run")
    for name in ("init_map", "init_allow"):
        if (now := resolved.settings.value_of(name)) != (earlier.ingredients.settings.get(name) or type(now)()):
            message = f"setting {name} is {now!r}, but run {earlier.run} already has its initial weights"
            raise ResumeError(message, hint=f"omit --{name.replace('_', '-')}, or start a new run")
    parent, digest = earlier.circumstances.parent, earlier.ingredients.initial_weights
    if parent is not None and digest is not None:
        return Initial(resolved=resolved, run=InitialWeights(parent=parent, sha256=digest))
    return Initial(resolved=resolved, dataset=dataset_named(word, root=root) if word else None)


def _named(resolved: Resolved[Any], run: str) -> Resolved[Any]:
    """Return the settings with the full ID of a run: `latest` would be another run in a rerun."""
    return replace(resolved, settings=resolved.settings.model_copy(update={_SETTING: run}))


def _near(word: str, root: Path) -> str | None:
    near = nearest(word, dataset_names(root=root), most=1)
    return f"did you mean the dataset {near[0]}?" if near else None
