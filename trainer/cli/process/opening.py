"""Begin an attempt: import the experiment, resolve its settings, identify the run's inputs, open its record.

A new run begins with attempt 1; a folder with attempts gets the next attempt, which is how a run is resumed. `open_run` numbers the
attempt and checks that its ingredients equal those of the earlier attempts.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from trainer.base.errors import ExperimentFailedError, RepriseError
from trainer.cli.process.session import BAKED_INVENTORY, SOURCE, Session
from trainer.cli.train.manual import OWN
from trainer.data.declaration import check_pairing, load_dataset
from trainer.runs.identify import RunFacts, identify
from trainer.runs.register import register_attempt
from trainer.runs.resume import check_ingredients, concurrent_start_error, last_record, origins_of, require_resumable
from trainer.runs.run import attempts, open_run
from trainer.settings.fields import CONFINED, RETEST
from trainer.settings.ledger import Ledger
from trainer.settings.origins import Origins, Resolved, resolve, take_apart

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from trainer.runs.handoff import FrozenSource, Launch
    from trainer.training.experiment import Experiment
    from trainer.training.resuming.stop_requests import Stop


def opened(launch: Launch, frozen: FrozenSource, argv: list[str], stop: Stop) -> Session:
    """Open the next attempt of the run that the launcher froze. Wrong input is rejected before."""
    began = monotonic()
    with stop.patient():
        experiment = imported(launch)
    resolved = resolved_for(experiment, argv)
    folder = Path(frozen.folder)
    if launch.resumes:
        resolved = replace(
            resolved,
            origins=origins_of(last_record(folder, passed=launch.passed), resolved.origins, command=launch.command),
        )
    dataset = load_dataset(resolved.settings.dataset, root=Path())
    if experiment.reads_fields:
        check_pairing(resolved, dataset)
    ledger = Ledger(resolved, root=SOURCE)
    facts = RunFacts(launch=launch, frozen=frozen, resolved=resolved, datasets=(dataset,))
    known = identify(facts, source=SOURCE, folder=folder, environ=os.environ, baked_inventory=BAKED_INVENTORY)
    around, ingredients = known.circumstances, known.ingredients
    if launch.resumes:
        before = last_record(folder, passed=launch.passed)
        lines = check_ingredients(before, ingredients, around, allowed=launch.allowed)
        ingredients, around = (
            before.ingredients,
            around.model_copy(
                update={
                    "changed": [*before.circumstances.changed, *lines],
                    "retest_of": before.circumstances.retest_of,
                    "purpose": before.circumstances.purpose,
                    "determinism_at_end": before.circumstances.determinism_at_end,
                }
            ),
        )
    stop.hold()  # until `closing`: after the record is open, a signal must reach the code that closes it
    number = len(attempts(folder)) + 1
    if launch.resumes:
        require_resumable(
            folder, here=around.host.name, passed=launch.passed
        )  # once more: another process may have begun since the launcher checked
    attempt = open_run(folder, ingredients=ingredients, circumstances=around)
    if launch.resumes and attempt.record.attempt != number:
        attempt.withdraw()
        raise concurrent_start_error(folder, number)
    if not {CONFINED, RETEST} & os.environ.keys():  # the user who started a retest already decided about trust
        _register(attempt.folder)
    return Session(
        launch=launch,
        frozen=frozen,
        experiment=experiment,
        resolved=resolved,
        ledger=ledger,
        dataset=dataset,
        stop=stop,
        opened=attempt,
        stages={"identify": monotonic() - began},
        publishes=resolved.settings.publish,
        switched=list(around.determinism_at_end or []),
    )


def _register(attempt: Path) -> None:
    """Register the attempt as this user's own; if that fails, it counts as made elsewhere, and a message says so."""
    try:
        register_attempt(attempt)
    except (OSError, RepriseError) as fault:
        print(f"not registered as your own, so --resume will ask: {fault}", file=sys.stderr)


def imported(launch: Launch) -> Experiment:
    """Import the experiment from the frozen source, and torch with it."""
    from trainer.training.experiment import load_experiment

    try:
        return load_experiment(launch.experiment, SOURCE / launch.file, root=SOURCE)
    except ExperimentFailedError as fault:
        if (name := _not_found(fault)) and (reason := _left_out(name, launch)):
            fault.hint = f"it is not in the source: {reason}"
        raise


def _not_found(fault: BaseException) -> str | None:
    """Return the module that an import did not find; `None` if the failure has another cause."""
    each: BaseException | None = fault
    while each is not None and not isinstance(each, ModuleNotFoundError):
        each = each.__cause__
    return each.name if each else None


def _left_out(module: str, launch: Launch) -> str | None:
    """Return why a file or folder of the checkout, from which a module would be imported, is not in the source."""
    places = [f"{module.replace('.', '/')}{ending}" for ending in ("", ".py", "/__init__.py")]
    if launch.frozen is not None:
        return next((line for line in launch.frozen.source.left_out if line.partition(": ")[0] in places), None)
    link = next((SOURCE / place for place in places if (SOURCE / place).is_symlink()), None)
    if link is None:
        return None
    return f"{link.relative_to(SOURCE)}: a link to {link.readlink()}: copy what it leads to into the checkout"


def attributed_to(experiment: Experiment) -> AbstractContextManager[None]:
    """Attribute an exception of the block to the experiment, to a library, or to Reprise."""
    from trainer.training.failures import attributing

    return attributing(file=experiment.file, root=SOURCE, net=experiment.net.__name__)


def resolved_for(experiment: Experiment, argv: list[str]) -> Resolved[Any]:
    """Return the experiment's settings, resolved from all origins. Raise `SettingError`."""
    words = take_apart(argv)
    file = words.options.get("settings")
    return resolve(
        experiment.settings, Origins(words=words.without(*OWN), environ=os.environ, file=Path(file) if file else None)
    )
