"""The training process: it opens the record, fetches, trains, closes, publishes; whatever happens, the record says so.

Knows the order of a run's steps and what each failure does to the record. Refuses to be started by hand: the launcher has set the
variables that libraries read when they are loaded.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from errno import EDQUOT, ENOSPC
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from trainer.actions.fetch_dataset import fetch_dataset
from trainer.actions.identify import Facts, identify
from trainer.actions.publish_run import publish_run
from trainer.actions.run import OpenRun, abandon, open_run
from trainer.cli.failure import report  # noqa: F401 - loaded now: when a failure is told, the frozen source may be gone
from trainer.cli.manual import OWN, experiment_help
from trainer.cli.places import cache_folder
from trainer.cli.progress import transfer_progress
from trainer.dataset import load_dataset
from trainer.digest import canonical
from trainer.errors import DiskFullError, InterruptedRunError, RepriseError, StoppedError, StoreMissingError
from trainer.launch import Frozen, Launch, launched
from trainer.ledger import Ledger
from trainer.origins import Origins, Resolved, resolve, take_apart
from trainer.record import Outcome, Status
from trainer.store import open_store
from trainer.store.cache import Cache
from trainer.training.stop import Stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.dataset import Dataset
    from trainer.store.contract import Store
    from trainer.training.experiment import Experiment
    from trainer.training.fit import Trained

BAKED_INVENTORY: Final = Path("/opt/reprise/inventory.json")
SOURCE: Final = Path.cwd()
"""The frozen source: the launcher starts the process in it."""


@dataclass(slots=True, kw_only=True)
class Session:
    """One attempt while it goes on."""

    launch: Launch
    frozen: Frozen
    experiment: Experiment
    resolved: Resolved[Any]
    ledger: Ledger
    stop: Stop
    opened: OpenRun
    stages: dict[str, float] = field(default_factory=dict)
    trained: Trained | None = None
    publishes: bool = True

    def say(self, line: str) -> None:
        """Tell the person at the terminal, and keep it in the attempt's log."""
        print(line, file=sys.stderr, flush=True)
        with (self.opened.folder / "log.txt").open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    @property
    def shown(self) -> str:
        """The record's path, as a person would type it."""
        return f"{self.frozen.shown}/attempts/{self.opened.record.attempt}/record.json"


def main(argv: list[str]) -> int:
    """Run the experiment that the launcher froze, or describe it."""
    stop = Stop()
    launch = launched(os.environ)
    words = take_apart(argv)
    if launch.frozen is None:
        stop.listen()
        experiment = _experiment(launch)
        print(experiment_help(experiment.name, experiment.settings))
        return 0
    folder = Path(launch.frozen.folder)
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        return _follow(launch, launch.frozen, argv, stop)
    try:
        stop.listen()
        session = _opened(launch, launch.frozen, argv, stop)
    except BaseException:
        stop.ignore()
        abandon(folder)
        raise
    with _closing(session):
        session.trained = _run(session)
    return _finish(session, as_json="json" in words.options)


def _opened(launch: Launch, frozen: Frozen, argv: list[str], stop: Stop) -> Session:
    began = monotonic()
    with stop.patient():
        experiment = _experiment(launch)
    resolved = _resolved(experiment, argv)
    dataset = load_dataset(resolved.settings.value_of("dataset"), root=Path())
    ledger = Ledger(resolved, root=SOURCE)
    facts = Facts(launch=launch, frozen=frozen, resolved=resolved, datasets=(dataset,))
    folder = Path(frozen.folder)
    known = identify(facts, source=SOURCE, folder=folder, environ=os.environ, baked_inventory=BAKED_INVENTORY)
    stop.waits = True  # until `_run`: a signal that came once the record is open must find somebody who closes it
    opened = open_run(folder, ingredients=known.ingredients, circumstances=known.circumstances)
    return Session(
        launch=launch,
        frozen=frozen,
        experiment=experiment,
        resolved=resolved,
        ledger=ledger,
        stop=stop,
        opened=opened,
        stages={"identify": monotonic() - began},
        publishes=resolved.settings.publish,
    )


def _run(session: Session) -> Trained:
    settings = session.resolved.settings
    dataset = load_dataset(settings.dataset, root=Path())
    place = settings.environment or session.opened.record.circumstances.image.environment
    with session.stop.patient():
        session.say(
            f"run {session.frozen.run}: {session.launch.experiment} on {dataset.title}{f' in {place}' if place else ''}"
        )
        from trainer.training.fit import Job, train

    with _stage(session, "fetch"):
        data = _fetched(dataset)
    with _stage(session, "train"):
        return train(
            Job(
                run=session.frozen.run,
                experiment=session.experiment,
                ledger=session.ledger,
                dataset=dataset,
                data=data,
                into=session.opened.folder,
                stop=session.stop,
                say=session.say,
                on_terminal=sys.stderr.isatty(),
                device=session.launch.device,
                started=session.launch.monotonic,
            )
        )


def _follow(launch: Launch, frozen: Frozen, argv: list[str], stop: Stop) -> int:
    """Train as one of the further ranks, which Lightning started: the first rank keeps the record."""
    from trainer.training.fit import Job, train

    stop.listen()
    experiment = _experiment(launch)
    resolved = _resolved(experiment, argv)
    dataset = load_dataset(resolved.settings.dataset, root=Path())
    train(
        Job(
            run=frozen.run,
            experiment=experiment,
            ledger=Ledger(resolved, root=SOURCE),
            dataset=dataset,
            data=_fetched(dataset),
            into=Path(os.environ["REPRISE_ATTEMPT"]),
            stop=stop,
            say=lambda _: None,
            on_terminal=False,
            device=launch.device,
            started=launch.monotonic,
        )
    )
    return 0


@contextmanager
def _closing(session: Session) -> Iterator[None]:
    """Close the record, however the block ends; what the experiment raised is told as hers."""
    os.environ["REPRISE_ATTEMPT"] = str(session.opened.folder)
    try:
        yield
    except BaseException as fault:
        session.stop.ignore()
        told = _told(fault, session)
        status = _status_of(told)
        _close(session, status, reason=_reason(told))
        published = _published(session) if status is Status.PREEMPTED else _local(session)
        for line in (
            f"run        {session.frozen.run} ({status})",
            f"record     {session.shown}",
            f"published  {published}",
        ):
            print(line, file=sys.stderr)
        if told is fault:
            raise
        raise told from fault
    session.stop.ignore()
    _close(session, Status.COMPLETED)


def _told(fault: BaseException, session: Session) -> BaseException:
    from trainer.training.exactness import translated
    from trainer.training.experiment import own_failure

    if isinstance(fault, RepriseError | KeyboardInterrupt):
        return fault
    if isinstance(fault, OSError) and fault.errno in {ENOSPC, EDQUOT}:
        return DiskFullError(
            f"no space left in the run folder {session.frozen.shown}", hint="free space, then run again"
        )
    own = own_failure(fault, file=session.experiment.file)
    if isinstance(fault, RuntimeError) and (exact := translated(fault)):
        return type(exact)(f"{exact.message}: {own.place}", hint=exact.hint) if own else exact
    return own or fault


def _status_of(fault: BaseException) -> Status:
    if isinstance(fault, InterruptedRunError | KeyboardInterrupt):
        return Status.INTERRUPTED
    return Status.PREEMPTED if isinstance(fault, StoppedError) else Status.FAILED


def _reason(fault: BaseException) -> str:
    return fault.message if isinstance(fault, RepriseError) else f"{type(fault).__name__}: {fault}"


def _close(session: Session, status: Status, *, reason: str | None = None) -> None:
    began = monotonic()
    trained = session.trained
    ledger = session.ledger
    outcome = Outcome(
        status=status,
        reason=reason,
        metrics=dict(trained.metrics) if trained else {},
        telemetry=dict(trained.telemetry) if trained else {},
        steps=trained.steps if trained else None,
        ledger=ledger.entries(),
        unread=ledger.unread(),
        weights=trained.weights if trained else None,
    )
    around = session.opened.record.circumstances
    session.stages["close"] = monotonic() - began
    timing = around.timing.model_copy(
        update={"seconds": monotonic() - session.launch.monotonic, "stages": session.stages}
    )
    session.opened.close(outcome, circumstances=around.model_copy(update={"timing": timing}))


def _finish(session: Session, *, as_json: bool) -> int:
    record = session.opened.record
    if unread := record.outcome.unread:
        print(f"bound, but never read: {', '.join(unread)}", file=sys.stderr)
    published = _published(session)
    if as_json:
        told = {"run": record.run, "status": record.outcome.status, "metrics": record.outcome.metrics}
        print(canonical({**told, "record": session.shown, "published": published}).decode())
        return 0
    tested = {name: value for name, value in record.outcome.metrics.items() if name.startswith("test_")}
    print(f"run        {record.run} ({record.outcome.status})")
    for name, value in sorted(tested.items()):
        print(f"{name.replace('_', ' '):10} {value:.4f}")
    print(f"record     {session.shown}")
    print(f"published  {published}")
    return 0


def _published(session: Session) -> str:
    """Publish the run, if it shall be; say where it is. What keeps it from the store keeps it here, and is told."""
    address = os.environ.get("REPRISE_STORE")
    if not (session.publishes and address):
        return _local(session)
    session.stop.listen()
    try:
        publish_run(Path(session.frozen.folder), open_store(address))
    except RepriseError as fault:
        print(f"not published: {fault.message}", file=sys.stderr)
        return _local(session)
    finally:
        session.stop.ignore()
    return address


def _local(session: Session) -> str:
    return f"local only; publish it with: scripts/reprise runs publish {session.frozen.run}"


def _experiment(launch: Launch) -> Experiment:
    from trainer.training.experiment import load_experiment

    return load_experiment(launch.experiment, SOURCE / launch.file, root=SOURCE)


def _resolved(experiment: Experiment, argv: list[str]) -> Resolved[Any]:
    words = take_apart(argv)
    file = words.options.get("settings")
    return resolve(
        experiment.settings, Origins(words=words.without(*OWN), environ=os.environ, file=Path(file) if file else None)
    )


def _fetched(dataset: Dataset) -> Path:
    return fetch_dataset(dataset, cache=Cache(root=cache_folder()), open_store=_store, progress=transfer_progress())


def _store() -> Store:
    address = os.environ.get("REPRISE_STORE")
    if not address:
        raise StoreMissingError(
            "the dataset is not in the cache, and no store is configured",
            hint="set REPRISE_STORE, or run scripts/setup",
        )
    return open_store(address)


@contextmanager
def _stage(session: Session, name: str) -> Iterator[None]:
    began = monotonic()
    try:
        yield
    finally:
        session.stages[name] = monotonic() - began
