"""`reprise runs publish`: upload ended runs to the store."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from trainer.base.errors import DigestMismatchError, DocumentError, RepriseError, RunError, UsageError
from trainer.base.suggestions import counted
from trainer.cli.configuration import STORE_HELP, configured_store, host_name, runs_folder
from trainer.cli.find_run import STORED_RUN_HELP, find_run_id
from trainer.cli.output import print_json
from trainer.cli.progress import readable, transfer_progress
from trainer.runs.list import RunLocation, list_runs, local_ids, unpublished
from trainer.runs.open_run import close_killed
from trainer.runs.publish import publish_run
from trainer.runs.record import RunStatus
from trainer.runs.run import ATTEMPTS, pulled_snapshots, record_of, recorded_attempts
from trainer.runs.verify import require_intact

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.cli.arguments import Verb
    from trainer.stores.contract import Store


def describe(publish: Verb) -> None:
    """Declare the options of `publish`."""
    publish.add_argument("run", metavar="RUN", nargs="*", help=f"{STORED_RUN_HELP}; required unless --all")
    publish.add_argument("--all", action="store_true", help="publish every ended run that is not in the store")
    publish.add_argument(
        "--abandoned",
        action="store_true",
        help="also publish a run whose process was killed, with status `interrupted`",
    )
    publish.add_argument("--store", metavar="ADDRESS", help=STORE_HELP)


def publish(args: Namespace) -> int:
    """Publish each run; print the error of a run that cannot be published, publish the others, then raise."""
    runs, store = runs_folder(), configured_store(args.store)
    local = local_ids(runs)
    chosen = [find_run_id(word, local) for word in args.run]
    if args.all:
        chosen += unpublished(list_runs(runs), store)
    elif not chosen:
        raise UsageError("publish needs a run or --all", hint="name a run or `latest`, or use --all")
    results: list[dict[str, Any]] = []
    faults: list[RepriseError] = []
    for run in chosen:
        try:
            results.append(_publish_one(run, store, is_abandoned=args.abandoned, quiet=args.json))
        except (RunError, DocumentError, DigestMismatchError) as fault:
            faults.append(fault)
            if len(chosen) > 1:
                print(f"not published: {fault.message}", file=sys.stderr)
    if args.json:
        print_json(results, indent=1)
    if faults and len(chosen) > 1:
        verb = "was" if len(faults) == 1 else "were"
        raise RunError(f"{len(faults)} of {len(chosen)} runs {verb} not published", hint=faults[0].hint)
    if faults:
        raise faults[0]
    return 0


def _publish_one(run: str, store: Store, *, is_abandoned: bool, quiet: bool) -> dict[str, Any]:
    folder = runs_folder() / run
    for number in recorded_attempts(folder):
        attempt = folder / ATTEMPTS / str(number)
        is_running = record_of(folder, number).outcome.status is RunStatus.RUNNING
        if is_abandoned and is_running and number not in pulled_snapshots(folder):
            close_killed(attempt, host=host_name())
        require_intact(attempt, record_of(folder, number))
    notes = publish_run(folder, store, progress=transfer_progress("publishing"))
    files = record_of(folder).outcome.files
    if not quiet:
        total = readable(sum(file.size for file in files))
        print(f"published {run}: {counted(len(files), 'file')}, {total}, in {store.label}")
    return {
        "run": run,
        "location": RunLocation.PUBLISHED,
        "store": store.address,
        "sealed": [note.sealed for note in notes],
    }
