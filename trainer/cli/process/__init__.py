"""The training process: open the record, fetch the dataset, train, close the record, publish the run.

The record is closed on any failure. The launcher starts this process: it sets the variables that libraries read when they are loaded.
`attempt` opens the record, and `closing` closes it.
"""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from trainer.base.errors import CheckpointError, SettingError
from trainer.base.suggestions import counted
from trainer.cli.configuration import cache_folder, shown_path
from trainer.cli.experiment_loading import find_experiment, resolve_settings
from trainer.cli.messages import report  # noqa: F401 - loaded now: when a failure is reported, the frozen source may be deleted
from trainer.cli.nodes import read_node
from trainer.cli.output import escaping, print_json, result_stream
from trainer.cli.process.attempt import open_attempt
from trainer.cli.process.closing import closing, finish
from trainer.cli.process.fetching import fetch_data, fetching_ahead, initial_file
from trainer.cli.process.followers import first_place, followers, read_place
from trainer.cli.process.heartbeats import watch_machines
from trainer.cli.process.machines import Announcement, announce, serving
from trainer.cli.process.other_ranks import train_as_rank, train_on_machine
from trainer.cli.process.publishing import publishing
from trainer.cli.train.manual import experiment_help
from trainer.data.cache.folder import Cache
from trainer.data.cache.inspections import cached_inspection
from trainer.runs.checkpoint_pointer import restore_checkpoint
from trainer.runs.handoff import read_launch
from trainer.runs.hardware import read_gauges
from trainer.runs.run import abandon
from trainer.settings.ledger import Ledger, use_ledger
from trainer.settings.origins import parse_options
from trainer.settings.settings_file import settings_text
from trainer.training.resuming.stop_requests import StopRequest
from trainer.training.scripts.script import Script

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.cli.process.attempt import RunningAttempt
    from trainer.runs.checkpoint_pointer import Saved
    from trainer.runs.handoff import FrozenSource, Launch
    from trainer.settings.origins import Resolved
    from trainer.training.assembly import TrainingJob
    from trainer.training.experiment import Experiment
    from trainer.training.plain.experiment import PlainExperiment
    from trainer.training.trained import Result, Trained


def main(argv: list[str]) -> int:
    """Run the experiment that the launcher froze, or describe it."""
    stop = StopRequest()
    launch = read_launch(os.environ)
    options = parse_options(argv)
    as_json = "json" in options
    if launch.frozen is None:
        stop.listen()
        with result_stream() as out:
            experiment = find_experiment(launch, argv)
            if "help" in options:
                print(experiment_help(experiment.name, experiment.settings), file=out)
            else:
                print_settings(resolve_settings(experiment, argv), as_json=as_json, out=out)
        return 0
    with result_stream() if as_json else nullcontext(escaping(sys.stdout)) as out:
        if (follower := read_place(os.environ)) is not None:
            return train_as_rank(follower, launch, argv, stop)
        if (node := read_node(os.environ)) is not None and node.node > 0:
            return train_on_machine(node, launch, launch.frozen, argv, stop)
        session = _open_session(launch, launch.frozen, argv, stop)
        with closing(session):
            experiment = session.experiment
            if isinstance(experiment, Script):
                session.trained = fetch_and_run(session, experiment)
            else:
                session.trained = fetch_and_train(session, experiment, argv)
        return finish(session, as_json=as_json, out=out)


def print_settings(resolved: Resolved[Any], *, as_json: bool, out: TextIO) -> None:
    """Print every setting with its origin: as a settings file, or as JSON."""
    files = {name: shown_path(Path(file)) for name, file in resolved.files.items()}
    resolved = replace(resolved, files=files)
    if as_json:
        entries = Ledger(resolved).entries()
        document = {name: entries[name].model_dump(mode="json", exclude={"bound", "read"}) for name in entries}
        print_json({"settings": document}, file=out)
    else:
        print(settings_text(resolved), end="", file=out)


def _open_session(launch: Launch, frozen: FrozenSource, argv: list[str], stop: StopRequest) -> RunningAttempt:
    try:
        stop.listen()
        return open_attempt(launch, frozen, argv, stop)
    except BaseException:
        stop.ignore()
        abandon(Path(frozen.folder))
        raise


def fetch_and_train(session: RunningAttempt, experiment: Experiment | PlainExperiment, argv: Sequence[str]) -> Trained:
    """Fetch and train; the record keeps the duration of each stage. Raise `NotFiniteError` for a result that is not finite."""
    environment = session.resolved.settings.environment or session.opened.record.circumstances.image.environment
    with session.stop.delay_stop():
        titles = " and ".join(dataset.title for dataset in session.datasets)
        title = f"{session.launch.experiment} on {titles}" if titles else session.launch.experiment
        title += f" from {session.initial.title}" if session.initial.title else ""
        session.say(f"run {session.frozen.run}: {title}{f' in {environment}' if environment else ''}")
        from trainer.training.assembly import TrainingJob, by_role
        from trainer.training.hooks import describe_misspelled_hooks
        from trainer.training.plain.experiment import PlainExperiment

        for line in describe_misspelled_hooks(experiment.net) if isinstance(experiment, PlainExperiment) else ():
            session.say(line)
    with session.stage("fetch"):
        fetch = partial(
            fetch_data, say=session.say, check=session.stop.check, as_folder=isinstance(experiment, PlainExperiment)
        )
        fetched = by_role(session.resolved.settings, ((each, fetch(each)) for each in session.datasets))
        initial = initial_file(session.initial, session.opened.folder, say=session.say)
    job = TrainingJob(
        run=session.frozen.run,
        experiment=experiment,
        ledger=session.ledger,
        datasets=fetched,
        into=session.opened.folder,
        stop=session.stop,
        say=session.say,
        on_first_step=session.stepping,
        on_switched=session.switch,
        on_terminal=sys.stderr.isatty(),
        device=session.launch.device,
        started=session.launch.monotonic,
        initial=initial,
        on_loaded=session.load,
        record=session.opened.record,
        gauges=read_gauges,
        on_limit=session.limit,
        inspection=None
        if len(session.datasets) != 1
        else cached_inspection(session.datasets[0], Cache(root=cache_folder())),
    )
    with fetching_ahead(fetched), publishing(session) as on_saved:
        job = replace(job, on_saved=on_saved)
        if session.launch.resumes:
            session.trained = _resume(session, job, argv)
        else:
            session.trained = _train(session, job, argv)
    require_result(session.trained)
    return session.trained


def _train(session: RunningAttempt, job: TrainingJob, argv: Sequence[str]) -> Trained:
    """Train in this process and in the processes of the other devices."""
    from trainer.training.fit import train

    devices, node = session.resolved.settings.value_of("devices"), read_node(os.environ)
    with (
        session.stage("train"),
        serving(node) as store,
        first_place(devices, node) as place,
        followers(place, run=job.run, attempt=job.into, argv=argv) as others,
        watch_machines(store, node) as machines,
    ):

        def check() -> None:
            session.stop.check()
            others.check()
            machines.check()

        if node is not None:
            cpu = session.opened.record.circumstances.host.cpu
            message = Announcement(run=job.run, ingredients=session.ingredients, devices=devices, cpu=cpu)
            session.say(f"waiting for {counted(node.nodes - 1, 'other machine')} at {node.host}:{node.port}")
            session.nodes = announce(store, node, message, check=check)
        return train(replace(job, place=place, check_ranks=check))


def _resume(session: RunningAttempt, job: TrainingJob, argv: Sequence[str]) -> Trained:
    rejected: dict[str, str] = {}
    while True:
        saved = _restore_checkpoint(session, rejected)
        try:
            return _train(session, replace(job, saved=saved), argv)
        except CheckpointError as fault:
            if saved is None:
                raise
            rejected[saved.sha256] = fault.message


def fetch_and_run(session: RunningAttempt, script: Script) -> Result:
    """Fetch the datasets that a script's arguments name, and run the script; the record keeps the duration of each stage."""
    from trainer.training.scripts.run import ScriptJob, run

    settings = session.resolved.settings
    with use_ledger(session.ledger):
        words = shlex.join([session.launch.experiment, *settings.arguments])
    environment = session.opened.record.circumstances.image.environment
    session.say(f"run {session.frozen.run}: {words}{f' in {environment}' if environment else ''}")
    with session.stage("fetch"):
        folders = {each.name: fetch_data(each, say=session.say, as_folder=True).folder() for each in session.datasets}
    job = ScriptJob(
        script=script,
        settings=settings,
        folders=folders,
        attempt=session.opened.folder,
        device=session.launch.device,
        stop=session.stop,
        say=session.say,
        note=session.note,
        on_start=session.stepping,
        on_limit=session.limit,
    )
    with session.stage("train"):
        return run(job)


def _restore_checkpoint(session: RunningAttempt, rejected: Mapping[str, str]) -> Saved | None:
    """Restore the last checkpoint that is valid and not in `rejected`; print its step and the skipped checkpoints.

    Return `None` if there is no such checkpoint. Raise `SettingError` if the checkpoint has more epochs than requested.
    """
    lines: list[str] = []
    saved = restore_checkpoint(session.opened.folder, say=lines.append, unfit=rejected, passed=session.launch.passed)
    for line in lines[max(0, len(rejected) - 1) :]:
        session.say(line)
    if saved is None:
        reason = "no checkpoint can be used" if lines else "no checkpoint was saved"
        session.say(f"{reason}: starting from step 0")
        return None
    session.say(f"resuming from step {saved.step}")
    session.began_at = saved.step
    require_epochs_left(saved, epochs=session.resolved.settings.max_epochs)
    return saved


def require_result(trained: Trained) -> None:
    """Raise `NotFiniteError` if the validation loss or the test loss is not finite; the record keeps the metrics."""
    from trainer.training.finite_losses import require_finite

    require_finite(trained.metrics, trained.inspection)


def require_epochs_left(saved: Saved, *, epochs: int) -> None:
    """Raise `SettingError` if a resumed run has already completed more epochs than requested."""
    if saved.epoch > epochs:
        raise SettingError(
            f"setting max_epochs is {epochs}, but the run has already completed {saved.epoch} epochs",
            hint=f"use --max-epochs {saved.epoch} or more, or omit it",
        )
