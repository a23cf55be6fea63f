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

from trainer.base.errors import RepriseError
from trainer.base.redaction import REDACTOR
from trainer.base.run_files import attempt_root
from trainer.cli.experiment_loading import SOURCE, datasets_of, find_experiment, resolve_settings, with_file_names
from trainer.cli.output import escaping
from trainer.cli.process.initial import find_initial
from trainer.cli.process.publishing import StoreClaims
from trainer.data.check_pairing import check_pairing
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
    Resolved,
)
from trainer.training.scripts.script import Script

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.cli.process.initial import Initial
    from trainer.data.declaration import Dataset
    from trainer.runs.handoff import FrozenSource, Launch
    from trainer.runs.open_run import OpenRun
    from trainer.runs.record import Circumstances, Ingredients, LoadedWeights, Node
    from trainer.settings.origins import Resolved
    from trainer.training.experiment import Experiment
    from trainer.training.plain.experiment import PlainExperiment
    from trainer.training.resuming.stop_requests import StopRequest
    from trainer.training.trained import Result

BAKED_INVENTORY: Final = Path("/opt/reprise/inventory.json")
LOG: Final = "log.txt"
"""A file in the attempt's folder: the lines printed on the terminal, and the traceback of the failure that ended the run."""


@dataclass(slots=True, kw_only=True)
class RunningAttempt:
    """A running attempt."""

    launch: Launch
    frozen: FrozenSource
    experiment: Experiment | PlainExperiment | Script
    resolved: Resolved[Any]
    ledger: Ledger
    datasets: tuple[Dataset, ...]
    initial: Initial
    stop: StopRequest
    opened: OpenRun
    ingredients: Ingredients
    """The ingredients of this attempt, with the changes that were allowed since the run began."""
    stages: dict[str, float] = field(default_factory=dict)
    trained: Result | None = None
    publishes: bool = True
    has_stepped: bool = False
    """Whether the first step has started. Before it, input can still be rejected; the attempt is then removed."""

    switched: list[str] = field(default_factory=list)
    """How the run left its level of determinism, one line each, including the lines that earlier attempts recorded."""

    limits: dict[str, str] = field(default_factory=dict)
    """The guarantees that the run lacks, such as `resume`, with the reason."""

    began_at: int = 0
    """The step from which this attempt resumed; 0 if it began the run."""

    nodes: list[Node] = field(default_factory=list)
    """The other machines of the run."""

    loaded: LoadedWeights | None = None
    """Which tensors of the initial weights were loaded."""

    @property
    def steps(self) -> int | None:
        """The optimizer steps of this attempt and of the earlier attempts; `None` if training began and has not finished."""
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


def open_attempt(launch: Launch, frozen: FrozenSource, argv: list[str], stop: StopRequest) -> RunningAttempt:
    """Open the next attempt of the run that the launcher froze. Wrong input is rejected before the attempt is opened."""
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
    return RunningAttempt(
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
        raise concurrent_start_error(folder, min(started))  # the launcher saw the attempt before it had a record
    attempt = open_run(folder, ingredients=ingredients, circumstances=circumstances)
    alive = [each for each in range(1, number) if is_alive(folder / ATTEMPTS / str(each))]
    if alive or attempt.record.attempt != number:
        attempt.withdraw()
        raise concurrent_start_error(folder, min(alive, default=number))
    return attempt


def _register(attempt: Path) -> None:
    """Register the attempt as this user's own. If this fails, print that the attempt will count as another user's or machine's."""
    try:
        register_attempt(attempt)
    except (OSError, RepriseError) as fault:
        print(f"the attempt is not registered as your own, so --resume will ask for trust: {fault}", file=sys.stderr)
