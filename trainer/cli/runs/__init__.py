"""`reprise runs`: list, show, pull, publish, push and export runs."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from trainer.base.document import read_json_below
from trainer.base.errors import (
    DigestMismatchError,
    DocumentError,
    RepriseError,
    RunError,
    RunNotFoundError,
    StoreError,
    UsageError,
)
from trainer.base.safe_folder import run_root
from trainer.base.suggestions import counted, listed
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import (
    CHECKOUT,
    STORE_HELP,
    TARGET_HELP,
    configured_store,
    give_to_container_user,
    host_name,
    runs_folder,
    store_address,
    store_at,
)
from trainer.cli.find_run import RUN_HELP, find_run_id, stored_run_id
from trainer.cli.formatting import columns
from trainer.cli.messages import spelled
from trainer.cli.output import print_json, print_result, underlying
from trainer.cli.progress import readable, transfer_progress
from trainer.cli.run_page import lineage_rows, page, summary
from trainer.cli.runs.export import describe as describe_export
from trainer.cli.runs.export import export as export_run
from trainer.cli.runs.push import describe as describe_push
from trainer.cli.runs.push import push as push_runs
from trainer.cli.runs.table import fitted, table
from trainer.cli.submitted import describe_job, find_submitted
from trainer.comparison.noise import FOLDER as NOISE
from trainer.comparison.noise import Noise
from trainer.comparison.retest import Retest, local_retests, published_retests
from trainer.runs.initial_weights import ancestors
from trainer.runs.list import (
    RunLocation,
    list_runs,
    local_ids,
    local_run,
    remote_ids,
    remote_run,
    stored_runs,
    unpublished,
)
from trainer.runs.names import LATEST, resolve_run
from trainer.runs.open_run import close_killed
from trainer.runs.publish import publish_run
from trainer.runs.pull import LARGEST, pull_run
from trainer.runs.record import RunStatus, record_schema
from trainer.runs.run import ATTEMPTS, attempts, pulled_snapshots, record_of, recorded_attempts
from trainer.runs.verify import require_intact
from trainer.sites.submission import submitted_ids
from trainer.sweeps.document import FOLDER as SWEEPS
from trainer.sweeps.folder import load, resolve_sweep, sweep_ids

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Collection

    from trainer.runs.list import ListedRun
    from trainer.runs.record import Record
    from trainer.stores.contract import Store

_LISTED: Final = 20
"""The default number of runs of `ls`."""
_STORED_RUN = "run: ID, start of an ID, or `latest`"


def main(argv: list[str]) -> int:
    """Run a subcommand."""
    args = _parser().parse_args(argv)
    args.target = args.store
    args.store = args.store or store_address()
    code: int = args.verb(args)
    return code


def _parser() -> Arguments:
    parser = Arguments("reprise runs", "Manage runs on this machine and in the store.")
    verbs = parser.commands()
    ls = verbs.add_parser("ls", help="list runs, latest first")
    ls.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help=f"list at most N runs; 0: all (default: {_LISTED}; with --sweep: all)",
    )
    places = ls.add_mutually_exclusive_group()
    places.add_argument("--local", action="store_true", help="list only local runs, without access to the store")
    ls.add_argument(
        "--sweep", metavar="SWEEP", help="list only the runs of this sweep: ID, start of an ID, or `latest`"
    )
    show = verbs.add_parser(
        "show",
        help="show a run's result, ingredients, image, drift, and settings with their origins and the code that read them",
    )
    show.add_argument("run", metavar="RUN", help=RUN_HELP)
    pull = verbs.add_parser("pull", help="download and verify runs from the store")
    pull.add_argument("run", metavar="RUN", nargs="+", help=_STORED_RUN)
    pull.add_argument(
        "--max-bytes",
        type=int,
        metavar="N",
        help=f"reject runs of more than N bytes (default: {LARGEST}, {LARGEST >> 30} GiB)",
    )
    publish = verbs.add_parser("publish", help="upload runs to the store")
    publish.add_argument("run", metavar="RUN", nargs="*", help=f"{_STORED_RUN}; required unless --all")
    publish.add_argument("--all", action="store_true", help="publish every ended run that is not in the store")
    publish.add_argument(
        "--abandoned",
        action="store_true",
        help="also publish a run whose process was killed, with status `interrupted`",
    )
    push = verbs.add_parser("push", help="copy runs to another store")
    describe_push(push)
    export = verbs.add_parser("export", help="write a run's record as SLSA provenance, RO-Crate or CycloneDX")
    describe_export(export)
    commands = {ls: _ls, show: _show, pull: _pull, publish: _publish, push: push_runs, export: export_run}
    for each, verb in commands.items():
        each.set_defaults(verb=verb)
        group = places if each is ls else each
        group.add_argument("--store", metavar="ADDRESS", help=TARGET_HELP if each is push else STORE_HELP)
        each.add_argument("--json", action="store_true", help="print the result as JSON")
    schema = verbs.add_parser(
        "schema", help="print the JSON Schema of records; `show --json` may add `lineage` and `scheduler` to a record"
    )
    schema.set_defaults(verb=_schema, store=None)
    return parser


def _ls(args: Namespace) -> int:
    limit = (None if args.sweep else _LISTED) if args.limit is None else args.limit or None
    most = None if args.sweep or limit is None else limit + 1
    rows = _with_store(args.store, most) if not args.local else list_runs(runs_folder(), limit=most)
    if args.sweep:
        sweep = load(runs_folder() / SWEEPS / resolve_sweep(args.sweep, sweep_ids(runs_folder())))
        runs = {point.run for point in sweep.points}
        rows = [row for row in rows if row.run in runs][:limit]
    if most is not None and len(rows) == most:
        rows = rows[:limit]
        print(f"the newest {counted(len(rows), 'run')} are listed; --limit 0 lists all", file=sys.stderr)
    for row in rows:
        if row.record is None:
            print(f"reprise: run {row.run} cannot be read: {row.fault}", file=sys.stderr)
    if args.json:
        print_json([summary(listed) for listed in rows], indent=1)
    elif not rows:
        print(spelled("no runs yet: `reprise train --exp digits` starts a run"), file=sys.stderr)
    else:
        _table(table(rows, measured=_measured()))
    return 0


def _with_store(address: str | None, limit: int | None) -> list[ListedRun]:
    """List local and published runs; if the store is unreachable, list local runs and print a warning."""
    if address is None:
        print("only local runs are listed: no store is configured", file=sys.stderr)
        return list_runs(runs_folder(), limit=limit)
    try:
        store = store_at(address)
        found = stored_runs(store)
        if unsealed := sorted({*found.unsealed} - {*local_ids(runs_folder())}):
            print(
                f"not listed: {listed(unsealed)}, of which only checkpoints were published: each may still train on another machine; "
                "if that machine is lost: " + spelled("reprise train --resume RUN --trust"),
                file=sys.stderr,
            )
        return list_runs(runs_folder(), store=store, remote=found.sealed, limit=limit)
    except StoreError as fault:
        print(f"only local runs are listed: {fault.message}", file=sys.stderr)
        if fault.hint:
            print(f"  -> {spelled(fault.hint)}", file=sys.stderr)
        return list_runs(runs_folder(), limit=limit)


def _measured() -> set[str]:
    """Return the IDs of runs of noise measurements; files that cannot be read as measurements are skipped."""
    runs: set[str] = set()
    with suppress(OSError, RepriseError), run_root(runs_folder() / NOISE) as folder:
        for name in folder.names():
            with suppress(RepriseError):
                if name.endswith(".json"):
                    runs.update(read_json_below(folder, name, Noise).runs)
    return runs


def _table(lines: list[tuple[str, ...]]) -> None:
    if not sys.stdout.isatty():
        print("\n".join(columns(lines)))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colors = {"completed": "green", "failed": "red", "killed": "red", "unreadable": "red", "running": "cyan"}
    console, grid = Console(file=underlying(sys.stdout)), Table(box=None, pad_edge=False)
    rows, omitted = fitted(lines, console.width)
    for name in rows[0]:
        grid.add_column(name, no_wrap=name not in {"experiment", "took"}, overflow="fold", min_width=len(name))
    for cells in rows[1:]:
        grid.add_row(*(Text(cell, style=colors.get(cell, "")) for cell in cells))
    console.print(grid)
    if omitted:
        print(
            f"columns omitted for lack of space: {', '.join(omitted)}; a wider terminal or a pipe shows them",
            file=sys.stderr,
        )


def _show(args: Namespace) -> int:
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


def _pull(args: Namespace) -> int:
    store, runs = configured_store(args.store), runs_folder()
    largest = LARGEST if args.max_bytes is None else args.max_bytes
    results: list[dict[str, Any]] = []
    for word in args.run:
        run = stored_run_id(word, store)
        before = attempts(runs / run)
        records = pull_run(run, store, runs=runs, largest=largest, progress=transfer_progress("pulling"))
        results.append({"run": run, "attempts": [record.attempt for record in records], "folder": str(runs / run)})
        new = [record.attempt for record in records if record.attempt not in before]
        if new:
            give_to_container_user(runs / run, checkout=CHECKOUT)
        if not args.json:
            count = counted(len(new), "attempt")
            print(
                f"pulled {run}: {count}, in {runs / run}"
                if new
                else f"{run} is already in {runs / run}, with the published files"
            )
            if (parent := records[-1].circumstances.parent) and not recorded_attempts(runs / parent.run):
                print(
                    f"its initial weights, from run {parent.run}, are included; to pull that run: reprise runs pull {parent.run}"
                )
    if args.json:
        print_json(results, indent=1)
    return 0


def _publish(args: Namespace) -> int:
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


def _schema(_: Namespace) -> int:
    print(record_schema(), end="")
    return 0
