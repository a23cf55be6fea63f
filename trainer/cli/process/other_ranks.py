"""The processes that train without a record: the other ranks of a machine, and the other machines of a run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from trainer.base.safe_folder import Root
from trainer.cli.experiment_loading import (
    SOURCE,
    attribute_errors,
    datasets_of,
    find_experiment,
    import_any_experiment,
    resolve_settings,
)
from trainer.cli.output import escaping
from trainer.cli.process.attempt import BAKED_INVENTORY
from trainer.cli.process.fetching import fetch_data, initial_file
from trainer.cli.process.followers import FollowerPlace, Followers, first_place, followers
from trainer.cli.process.heartbeats import watch_machines
from trainer.cli.process.initial import initial_of_rank
from trainer.cli.process.machines import arrive, join
from trainer.runs.identify import RunFacts, identify
from trainer.runs.run import ATTEMPTS, abandon
from trainer.settings.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.cli.nodes import NodePlace
    from trainer.runs.handoff import FrozenSource, Launch
    from trainer.training.resuming.stop_requests import StopRequest


def train_on_machine(node: NodePlace, launch: Launch, frozen: FrozenSource, argv: list[str], stop: StopRequest) -> int:
    """Train on a machine other than node 0, which keeps the record: nothing of the run is kept on this machine.

    Raise `RankError` if this machine's inputs differ from node 0's.
    """
    stop.listen()
    try:
        experiment = find_experiment(launch, argv)
        resolved = resolve_settings(experiment, argv)
        datasets = datasets_of(experiment, resolved.settings)
        weights = initial_of_rank(resolved).dataset
        facts = RunFacts(launch=launch, frozen=frozen, resolved=resolved, datasets=datasets, weights=weights)
        folder = Path(frozen.folder)
        mine = identify(facts, source=SOURCE, folder=folder, environ=os.environ, baked_inventory=BAKED_INVENTORY)
        devices = resolved.settings.value_of("devices")
        store = join(node, check=stop.check)
        found = arrive(store, node, mine, devices=node.devices_here(devices), check=stop.check)
        print(f"node {node.node} of {node.nodes} of run {found.run}", file=escaping(sys.stderr))
        with TemporaryDirectory(prefix="reprise-machine-") as temporary, first_place(devices, node) as place:
            attempt = Path(temporary) / found.run / ATTEMPTS / "1"
            with Root.at(Path(temporary)) as root:
                root.below(f"{found.run}/{ATTEMPTS}/1", make=True).close()
            with (
                followers(place, run=found.run, attempt=attempt, argv=argv) as others,
                watch_machines(store, node) as machines,
            ):

                def check() -> None:
                    stop.check()
                    others.check()
                    machines.check()

                follower = FollowerPlace(place=place, run=found.run, attempt=str(attempt))
                try:
                    _train_without_record(follower, launch, argv, stop, check=check)
                except Exception:
                    _print_outputs(others)
                    raise
    finally:
        if not launch.resumes:
            abandon(Path(frozen.folder))
    return 0


def _print_outputs(others: Followers) -> None:
    """Print the output of this machine's other ranks: the folder with their logs is temporary."""
    for rank, text in others.outputs():
        print(f"the output of rank {rank}:\n{text.rstrip()}", file=escaping(sys.stderr))


def train_as_rank(follower: FollowerPlace, launch: Launch, argv: list[str], stop: StopRequest) -> int:
    """Train as a rank other than the first rank of a machine; rank 0 writes the record and selects the checkpoint to resume from."""
    stop.listen()
    _train_without_record(follower, launch, argv, stop, check=stop.check)
    return 0


def _train_without_record(
    follower: FollowerPlace, launch: Launch, argv: list[str], stop: StopRequest, *, check: Callable[[], None]
) -> None:
    from trainer.training.assembly import TrainingJob, by_role
    from trainer.training.fit import train

    experiment = import_any_experiment(launch, argv)
    resolved = resolve_settings(experiment, argv)
    attempt = Path(follower.attempt)
    stop.has_run = True  # rank 0 keeps the record
    initial = initial_of_rank(resolved)
    with attribute_errors(experiment):
        train(
            TrainingJob(
                run=follower.run,
                experiment=experiment,
                ledger=Ledger(resolved, root=SOURCE),
                datasets=by_role(
                    resolved.settings,
                    (
                        (each, fetch_data(each, say=lambda _: None, check=stop.check))
                        for each in datasets_of(experiment, resolved.settings)
                    ),
                ),
                into=attempt,
                stop=stop,
                say=lambda _: None,
                on_first_step=lambda: None,
                on_terminal=False,
                device=launch.device,
                started=launch.monotonic,
                initial=initial_file(initial, attempt, say=lambda _: None),
                place=follower.place,
                check_ranks=check,
            )
        )
