"""One attempt: its state, shared by the stages of the training process, and its beginning.

An attempt begins with importing the experiment, resolving its settings, identifying the run's inputs and opening its record. A new run
begins with attempt 1; a folder with attempts gets the next attempt, which is how a run is resumed. `open_run` numbers the attempt and
checks that its ingredients equal those of the earlier attempts.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import ExperimentFailedError, RepriseError
from trainer.base.redaction import REDACTOR
from trainer.base.run_files import attempt_root
from trainer.cli.output import escaping
from trainer.cli.process.initial import find_initial
from trainer.cli.process.publishing import StoreClaims
from trainer.data.check_pairing import check_pairing
from trainer.data.declaration import load_dataset
from trainer.data.references import ROLES, datasets_by_role
from trainer.data.splits import require_split
from trainer.runs.identify import RunFacts, identify
from trainer.runs.initial_weights import keep
from trainer.runs.open_run import is_alive, open_run
from trainer.runs.register import own_attempts, register_attempt
from trainer.runs.resume import (
    check_ingredients,
    concurrent_start_error,
    files_of,
    last_record,
    origins_of,
    require_resumable,
)
from trainer.runs.run import ATTEMPTS, attempts
from trainer.settings.fields import CONFINED, RETEST
from trainer.settings.ledger import Ledger
from trainer.settings.origins import (
    Origins,
    Resolved,
    given_settings,
    parse_options,
    resolve,
    setting_options,
    settings_names,
)
from trainer.settings.settings_file import COPIES
from trainer.source.project import find_project
from trainer.training.scripts.script import Script

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from trainer.cli.process.initial import Initial
    from trainer.data.declaration import Dataset
    from trainer.runs.handoff import FrozenSource, Launch
    from trainer.runs.open_run import OpenRun
    from trainer.runs.record import Circumstances, Ingredients, LoadedWeights, Node
    from trainer.settings.origins import Resolved
    from trainer.training.experiment import Experiment
    from trainer.training.plain.experiment import PlainExperiment
    from trainer.training.resuming.stop_requests import Stop
    from trainer.training.trained import Result

BAKED_INVENTORY: Final = Path("/opt/reprise/inventory.json")
LOG: Final = "log.txt"
"""A file in the attempt's folder: the lines printed on the terminal, and the traceback of the failure that ended the run."""
SOURCE: Final = Path.cwd()
"""The frozen source: the launcher starts the process in this folder."""


@dataclass(slots=True, kw_only=True)
class Session:
    """One running attempt."""

    launch: Launch
    frozen: FrozenSource
    experiment: Experiment | PlainExperiment | Script
    resolved: Resolved[Any]
    ledger: Ledger
    datasets: tuple[Dataset, ...]
    initial: Initial
    stop: Stop
    opened: OpenRun
    ingredients: Ingredients
    """Those of this attempt, with the changes that were allowed since the run began."""
    stages: dict[str, float] = field(default_factory=dict)
    trained: Result | None = None
    publishes: bool = True
    has_stepped: bool = False
    """Whether a first step has begun: before it, input can still be rejected, and then there was no run."""

    switched: list[str] = field(default_factory=list)
    """How the run left its level of determinism, one line each, including the lines that earlier attempts recorded."""

    limits: dict[str, str] = field(default_factory=dict)
    """The guarantees that the run lacks, such as `resume`, with the reason."""

    began_at: int = 0
    """The step from which this attempt resumed."""

    nodes: list[Node] = field(default_factory=list)
    """The other machines of the run."""

    loaded: LoadedWeights | None = None
    """Which tensors of the initial weights were loaded."""

    @property
    def steps(self) -> int | None:
        """The optimizer steps of this attempt and of the earlier attempts; `None` if an unfinished attempt does not know them."""
        if self.trained is not None:
            return self.trained.steps
        return None if self.has_stepped else self.began_at

    def stepping(self) -> None:
        """Record that a step begins."""
        self.has_stepped = True

    def load(self, report: LoadedWeights) -> None:
        """Record which tensors were loaded."""
        self.loaded = report

    def switch(self, line: str) -> None:
        """Record that the net changed the run's level of determinism, and print it."""
        self.switched.append(line)
        self.say(f"determinism level {self.opened.record.ingredients.determinism.level} no longer holds: {line}")

    def limit(self, name: str, reason: str) -> None:
        """Record a guarantee that the run lacks, and print it once."""
        if name not in self.limits:
            self.limits[name] = reason
            self.say(f"not guaranteed: {name}: {reason}")

    def say(self, line: str) -> None:
        """Print a line on the terminal, and add it to the attempt's log."""
        print(line, file=escaping(sys.stderr), flush=True)
        self.note(line)

    def note(self, text: str) -> None:
        """Add text to the attempt's log only."""
        with attempt_root(self.opened.folder) as attempt, attempt.append(LOG) as log:
            log.write(f"{REDACTOR.redact(text)}\n".encode(errors="backslashreplace"))

    def shown_path(self, name: str) -> str:
        """Return the path of a file of the attempt, as a user would type it."""
        return f"{self.frozen.shown}/attempts/{self.opened.record.attempt}/{name}"

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Record the duration of the block."""
        start = monotonic()
        try:
            yield
        finally:
            self.stages[name] = monotonic() - start


def open_attempt(launch: Launch, frozen: FrozenSource, argv: list[str], stop: Stop) -> Session:
    """Open the next attempt of the run that the launcher froze. Wrong input is rejected before."""
    start = monotonic()
    with stop.delay_stop():
        experiment = find_experiment(launch, argv)
    folder = Path(frozen.folder)
    resolved = with_file_names(resolve_settings(experiment, argv), run=folder)
    earlier = last_record(folder, passed=launch.passed) if launch.resumes else None
    if earlier is not None:
        origins = origins_of(earlier, resolved.origins, command=launch.command)
        resolved = replace(resolved, origins=origins, files=files_of(earlier, origins))
    datasets = datasets_of(experiment, resolved.settings)
    if experiment.reads_fields:
        skipped = ("input_field",) if getattr(getattr(experiment, "net", None), "input_fields", ()) else ()
        for dataset in datasets:
            check_pairing(resolved, dataset, skip=skipped)
    _require_splits(experiment, resolved.settings, datasets)
    initial = find_initial(resolved, folder=folder, earlier=earlier)
    resolved = initial.resolved
    ledger = Ledger(resolved, root=SOURCE)
    facts = RunFacts(
        launch=launch,
        frozen=frozen,
        resolved=resolved,
        datasets=datasets,
        initial=initial.run,
        weights=initial.dataset,
    )
    identified = identify(facts, source=SOURCE, folder=folder, environ=os.environ, baked_inventory=BAKED_INVENTORY)
    circumstances, ingredients = identified.circumstances, identified.ingredients
    if earlier is not None:
        lines = check_ingredients(earlier, ingredients, circumstances, allowed=launch.allowed)
        ingredients, circumstances = (
            earlier.ingredients,
            circumstances.model_copy(
                update={
                    "changed": [*earlier.circumstances.changed, *lines],
                    "retest_of": earlier.circumstances.retest_of,
                    "purpose": earlier.circumstances.purpose,
                    "determinism_at_end": earlier.circumstances.determinism_at_end,
                }
            ),
        )
    claims = StoreClaims.configured(publishes=resolved.settings.publish)
    claims.hold_numbers(folder, ingredients)
    stop.hold()  # until `closing`: after the record is open, a signal must reach the code that closes it
    attempt = _open(launch, folder, ingredients, circumstances)
    claims.claim(attempt)
    if initial.run is not None:
        keep(folder, attempt=attempt.record.attempt)
    if not {CONFINED, RETEST} & os.environ.keys():  # the user who started a retest already decided about trust
        _register(attempt.folder)
    return Session(
        launch=launch,
        frozen=frozen,
        experiment=experiment,
        resolved=resolved,
        ledger=ledger,
        datasets=datasets,
        initial=initial,
        stop=stop,
        opened=attempt,
        ingredients=identified.ingredients,
        stages={"identify": monotonic() - start},
        publishes=resolved.settings.publish,
        switched=list(circumstances.determinism_at_end or []),
    )


def _require_splits(
    experiment: Experiment | PlainExperiment | Script, settings: Any, datasets: Sequence[Dataset]
) -> None:
    """Raise `DatasetError` for a split that the run reads and no dataset declares, before anything is fetched."""
    if isinstance(experiment, Script) or not experiment.reads_samples:
        return
    declared = {each.name: each for each in datasets}
    for name, roles in datasets_by_role(settings.dataset).items():
        for split in experiment.splits:
            if split in (roles or ROLES):
                require_split(split, declared[name].splits, dataset=name)


def _open(launch: Launch, folder: Path, ingredients: Ingredients, circumstances: Circumstances) -> OpenRun:
    """Open the run's next attempt. Raise `ResumeError` if another process of the run is alive, or started since the launcher's check."""
    if not launch.resumes:
        return open_run(folder, ingredients=ingredients, circumstances=circumstances)
    number = len(attempts(folder)) + 1
    require_resumable(folder, host=circumstances.host.name, passed=launch.passed)
    if started := {*launch.passed} & {*own_attempts(folder, runs=folder.parent, users={os.getuid()})}:
        raise concurrent_start_error(folder, min(started))  # the launcher saw it before it had a record
    attempt = open_run(folder, ingredients=ingredients, circumstances=circumstances)
    alive = [each for each in range(1, number) if is_alive(folder / ATTEMPTS / str(each))]
    if alive or attempt.record.attempt != number:
        attempt.withdraw()
        raise concurrent_start_error(folder, min(alive, default=number))
    return attempt


def _register(attempt: Path) -> None:
    """Register the attempt as this user's own; if that fails, it counts as from another user or machine, which a message reports."""
    try:
        register_attempt(attempt)
    except (OSError, RepriseError) as fault:
        print(f"not registered as your own, so --resume will ask: {fault}", file=sys.stderr)


def datasets_of(
    experiment: Experiment | PlainExperiment | Script, settings: Any, *, root: Path = Path()
) -> tuple[Dataset, ...]:
    """Load the datasets that the settings name. Raise `DatasetError`."""
    names = experiment.datasets(settings)
    return tuple(load_dataset(name, root=root) for name in names)


def chosen_classes(origins: Origins) -> dict[str, Any]:
    """Return the given settings `model` and `data`, which choose among the classes of a plain module's file."""
    return {name: value for name, value in given_settings(origins).items() if name in {"model", "data"}}


def import_experiment(launch: Launch) -> Experiment:
    """Import the experiment, which must have a task, from the frozen source, and torch with it."""
    from trainer.training.experiment import load_experiment

    with _explaining_imports(launch):
        return load_experiment(launch.experiment, SOURCE / launch.file, root=SOURCE)


def find_experiment(launch: Launch, argv: Sequence[str]) -> Experiment | PlainExperiment | Script:
    """Return the script of the frozen source, or import the experiment."""
    if launch.is_script:
        return Script(name=launch.experiment, file=SOURCE / launch.file)
    return import_any_experiment(launch, argv)


def import_any_experiment(launch: Launch, argv: Sequence[str]) -> Experiment | PlainExperiment:
    """Import the experiment from the frozen source; the command line chooses among several plain modules."""
    from trainer.training.experiment import load_any_experiment

    chosen = chosen_classes(_origins(argv))
    file = SOURCE / launch.file
    project = None if file.is_relative_to(SOURCE) else find_project(file)
    with _explaining_imports(launch):
        return load_any_experiment(launch.experiment, file, root=SOURCE, chosen=chosen, project=project)


@contextmanager
def _explaining_imports(launch: Launch) -> Iterator[None]:
    """Add to an error of an import why the imported file is not in the source."""
    try:
        yield
    except ExperimentFailedError as fault:
        if (name := _missing_module(fault)) and (reason := _omission_reason(name, launch)):
            fault.hint = f"it is not in the source: {reason}"
        raise


def _missing_module(fault: BaseException) -> str | None:
    """Return the module that an import did not find; `None` if the failure has another cause."""
    each: BaseException | None = fault
    while each is not None and not isinstance(each, ModuleNotFoundError):
        each = each.__cause__
    return each.name if each else None


def _omission_reason(module: str, launch: Launch) -> str | None:
    """Return why a file or folder of the checkout, from which a module would be imported, is not in the source."""
    paths = [f"{module.replace('.', '/')}{ending}" for ending in ("", ".py", "/__init__.py")]
    if launch.frozen is not None:
        return next((line for line in launch.frozen.source.left_out if line.partition(": ")[0] in paths), None)
    link = next((SOURCE / path for path in paths if (SOURCE / path).is_symlink()), None)
    if link is None:
        return None
    return f"{link.relative_to(SOURCE)}: a link to {link.readlink()}: copy its target into the checkout"


def attribute_errors(experiment: Experiment | PlainExperiment) -> AbstractContextManager[None]:
    """Attribute an exception of the block to the experiment, to a library, or to Reprise."""
    from trainer.training.failures import attributing

    return attributing(file=experiment.file, root=SOURCE, net=experiment.net.__name__)


def resolve_settings(experiment: Experiment | PlainExperiment | Script, argv: list[str]) -> Resolved[Any]:
    """Return the experiment's settings, resolved from all origins. Raise `SettingError`."""
    origins = _origins(argv)
    if hasattr(experiment, "require_fillable"):  # a plain module
        experiment.require_fillable(given_settings(origins))
    return resolve(experiment.settings, origins)


def with_file_names(resolved: Resolved[Any], *, run: Path) -> Resolved[Any]:
    """Return settings with the names of files that another command copied into the run's folder, instead of the copies' paths."""
    copies = f"{run / COPIES}/"
    return replace(resolved, files={name: file.removeprefix(copies) for name, file in resolved.files.items()})


def _origins(argv: Sequence[str]) -> Origins:
    files = tuple(Path(name) for name in settings_names(argv) if name)
    return Origins(options=setting_options(parse_options(argv)), environ=os.environ, files=files)
