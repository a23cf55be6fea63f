"""`reprise runs push`: copy runs from one store to another store, with `--with-data` also their datasets."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

from trainer.base.errors import DatasetError, RunNotFoundError
from trainer.cli.configuration import TARGET_HELP, runs_folder, two_stores
from trainer.cli.find_run import find_run_id
from trainer.cli.messages import spelled
from trainer.cli.output import print_json
from trainer.cli.progress import readable, transfer_progress
from trainer.comparison.retest import push_retests
from trainer.runs.list import local_ids, remote_ids
from trainer.runs.names import full_run_id
from trainer.runs.publish import publish_run
from trainer.runs.push import missing_datasets, push_run
from trainer.runs.run import ATTEMPTS, record_of, recorded_attempts
from trainer.runs.verify import require_intact

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.cli.arguments import Verb
    from trainer.runs.record import Record
    from trainer.stores.contract import Store


def describe(push: Verb) -> None:
    """Declare the options of `push`."""
    push.add_argument(
        "run",
        metavar="RUN",
        nargs="+",
        help="run in the store or on this machine: ID, start of an ID, or `latest`",
    )
    push.add_argument("--from", dest="source", metavar="ADDRESS", help="store to copy from (default: REPRISE_STORE)")
    push.add_argument(
        "--with-data", action="store_true", help="also copy the runs' datasets that the other store lacks"
    )
    push.add_argument("--store", metavar="ADDRESS", help=TARGET_HELP)


def push(args: Namespace) -> int:
    """Copy each run, then its datasets; without `--with-data`, print the datasets that the target lacks."""
    source, target = two_stores(args.source, args.target, command="reprise runs push RUN")
    results: list[dict[str, Any]] = []
    missing: dict[str, None] = {}
    local = local_ids(runs_folder())
    runs = [full_run_id(word) or find_run_id(word, sorted({*local, *remote_ids(source)})) for word in args.run]
    for run in runs:
        records, size = _push_run(run, source, target)
        for dataset in dict.fromkeys(name for record in records for name in missing_datasets(record, target)):
            missing[dataset] = None
        results.append(
            {"run": run, "store": target.address, "attempts": [each.attempt for each in records], "sent": size}
        )
        if not args.json:
            print(
                f"pushed {run}: {readable(size)} sent; in {target.label}"
                if size
                else f"{run} is already in {target.label}"
            )
    if args.with_data:
        for dataset in missing:
            _push_data(dataset, source, target)
    elif missing:
        names = " ".join(list(missing)[:5])
        print(f"datasets of these runs that are not in {target.label}: {', '.join(list(missing)[:5])}", file=sys.stderr)
        print(f"  -> {spelled(f'reprise data push {names} --store {shlex.quote(args.target)}')}", file=sys.stderr)
    if args.json:
        lacking = [] if args.with_data else list(missing)
        print_json([{**each, "missing_datasets": lacking} for each in results], indent=1)
    return 0


def _push_run(run: str, source: Store, target: Store) -> tuple[tuple[Record, ...], int]:
    """Copy a run's sealed attempts; publish a run that is only on this machine. Return the run's records and the number of sent bytes."""
    progress = transfer_progress("pushing")
    try:
        pushed = push_run(run, source=source, target=target, progress=progress)
    except RunNotFoundError:
        folder = runs_folder() / run
        if not (folder / ATTEMPTS).is_dir():
            raise
        records = tuple(record_of(folder, number) for number in recorded_attempts(folder))
        for record in records:
            require_intact(folder / ATTEMPTS / str(record.attempt), record)
        publish_run(folder, target, progress=progress)
        return records, sum(file.size for record in records for file in record.outcome.files)
    push_retests(run, source=source, target=target)
    return pushed.records, pushed.sent


def _push_data(title: str, source: Store, target: Store) -> None:
    from trainer.data.versions import push_dataset, read_version  # late: every `reprise runs` imports this module

    name, _, version = title.partition("@")
    dataset = read_version(source, name, int(version))
    if dataset is None:
        raise DatasetError(f"{title} is not in {source.label}", hint="name a store that has it: --from ADDRESS")
    size = push_dataset(dataset, source=source, target=target, progress=transfer_progress("pushing")).sent
    print(f"pushed {title}: {readable(size)} sent; in {target.label}", file=sys.stderr)
