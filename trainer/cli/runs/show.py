"""`reprise runs show`: show a run's record, the runs of its initial weights, its retests and its scheduled job."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from trainer.base.errors import RepriseError, RunError, RunNotFoundError, StoreError
from trainer.cli.configuration import STORE_HELP, runs_folder, store_at
from trainer.cli.find_run import RUN_HELP, find_run_id
from trainer.cli.output import print_result
from trainer.cli.run_page import lineage_rows, page
from trainer.cli.submitted import describe_job, find_submitted
from trainer.comparison.retest import Retest, local_retests, published_retests
from trainer.runs.initial_weights import ancestors
from trainer.runs.list import RunLocation, local_ids, local_run, remote_ids, remote_run
from trainer.runs.names import LATEST, resolve_run
from trainer.runs.run import recorded_attempts
from trainer.sites.submission import submitted_ids

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Collection

    from trainer.cli.arguments import Verb
    from trainer.runs.list import ListedRun
    from trainer.runs.record import Record


def describe(show: Verb) -> None:
    """Declare the options of `show`."""
    show.add_argument("run", metavar="RUN", help=RUN_HELP)
    show.add_argument("--store", metavar="ADDRESS", help=STORE_HELP)


def show(args: Namespace) -> int:
    """Show a run; a submitted run that has no record is shown as it waits."""
    try:
        listed = _find_listed(args.run, args.store)
    except RunNotFoundError:
        if not submitted_ids(runs_folder()):
            raise
        return _show_waiting(args)
    job = describe_job(runs_folder() / listed.run)
    if job is not None and not recorded_attempts(runs_folder() / listed.run):
        return _show_waiting(args)
    if listed.record is None:
        raise RunError(
            f"the record of run {listed.run} cannot be read: {listed.fault}",
            hint="reprise runs pull restores a published record",
        )
    lineage = list(ancestors(listed.record, lambda run: _record(run, args.store)))
    retests = [] if args.json else _retests(listed, args.store)
    lines = "" if args.json else page(listed, listed.record, retests=retests, lineage=lineage, job=job)
    rows = ({"lineage": lineage_rows(lineage)} if lineage else {}) | ({"scheduler": job} if job else {})
    print_result(listed.record.model_dump(mode="json") | rows, lines, as_json=args.json, indent=1)
    return 0


def _show_waiting(args: Namespace) -> int:
    """Show a submitted run that has no record. Raise `RunNotFoundError` if no such run was submitted."""
    folder, note = find_submitted(args.run)
    job = describe_job(folder)
    document = {"run": folder.name, "scheduler": job, "submission": note.model_dump(mode="json")}
    lines = [f"run        {folder.name}, which has no record yet", f"scheduler  {job}"]
    print_result(document, lines, as_json=args.json, indent=1)
    return 0


def _record(run: str, address: str | None) -> Record | None:
    """Return the record of a run, on this machine or in the store; `None` if it is not found."""
    with suppress(RepriseError):
        return _find_listed(run, address).record
    return None


def _retests(listed: ListedRun, address: str | None) -> list[Retest]:
    """Return the run's retests on this machine and, if the run is published and the store is reachable, in the store."""
    retests = {retest.retest.run: retest for retest in local_retests(runs_folder() / listed.run)}
    if address and listed.location is not RunLocation.LOCAL:
        try:
            retests |= {retest.retest.run: retest for retest in published_retests(listed.run, store_at(address))}
        except StoreError as fault:
            print(f"only local retests are shown: {fault.message}", file=sys.stderr)
    return list(retests.values())


def _find_listed(word: str, address: str | None) -> ListedRun:
    """Return the run that `word` names, on this machine or else in the store. Raise `RunNotFoundError` if neither has the run."""
    runs = runs_folder()
    local = local_ids(runs)
    try:
        word = _newest(local, address) if word == LATEST else word
        return local_run(runs, resolve_run(word, local))
    except RunNotFoundError as fault:
        if address is None:
            raise
        missing = fault
    store = store_at(address)
    try:
        remote = remote_ids(store)
    except StoreError as fault:
        raise RunNotFoundError(f"{missing.message} on this machine, and {fault.message}", hint=missing.hint) from fault
    run = resolve_run(word, {*local, *remote})
    return remote_run(store, run, remote[run])


def _newest(local: Collection[str], address: str | None) -> str:
    """Return the user's latest run on this machine; without local runs, the latest run in the store."""
    if local or not address:
        return find_run_id(LATEST, local)
    with suppress(StoreError):
        return find_run_id(LATEST, remote_ids(store_at(address)))
    return LATEST
