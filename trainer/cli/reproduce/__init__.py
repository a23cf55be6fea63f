"""`reprise reproduce RUN`: reruns a record from its source in its image and compares the results.

With `--no-container` the rerun uses this environment, and its differences from the record are printed and kept. A run that began with the
weights of another run is rerun from its copy of these weights, or, with `--chain`, from a rerun of the other run. With `--to` a job on a
cluster runs the command: each start of the job begins the rerun with a given ID, or resumes it.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from trainer.base.digest import canonical, digest_of_bytes
from trainer.base.errors import (
    DigestMismatchError,
    DriftError,
    InterruptedRunError,
    PreemptedError,
    RepriseError,
    RunError,
    RunNotFoundError,
    StoppedError,
    UsageError,
)
from trainer.base.suggestions import counted
from trainer.cli.arguments import Arguments
from trainer.cli.checkout import wake_store
from trainer.cli.compare import headline, page
from trainer.cli.configuration import (
    DRY_RUN_HELP,
    cache_folder,
    host_name,
    runs_folder,
    store_address,
    store_at,
    user_name,
)
from trainer.cli.find_run import RUN_HELP, RunOnDisk, find_run
from trainer.cli.messages import spelled
from trainer.cli.output import print_progress, print_result
from trainer.cli.reproduce.existing import OPTION, existing_rerun, is_resumable, register_attempts, rerun_folder
from trainer.cli.runner import choose_runner
from trainer.cli.trust import TrustDecision, grants, require_trust, trust_options
from trainer.comparison.compare import EvidenceSources, compare, load_compared_run
from trainer.comparison.examine_run import examine_run, find_datasets, require_outcome, require_reproducible
from trainer.comparison.reproduce import ParentSource, load_rerun_record, prepare_rerun
from trainer.comparison.retest import Retest, device_class, publish_retest, run_identity, save_retest
from trainer.data.declaration import Dataset
from trainer.runs.image_file import IMAGE_FILE
from trainer.runs.initial_weights import ancestors
from trainer.runs.publish import publish_run
from trainer.runs.record import RunStatus
from trainer.runs.run import record_of, recorded_attempts
from trainer.source.capture import ARCHIVE
from trainer.source.copy import load_bundle

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from trainer.cli.reproduce.existing import ExistingRerun
    from trainer.cli.runner import Runner
    from trainer.comparison.compare import Comparison
    from trainer.comparison.reproduce import PreparedRerun
    from trainer.runs.record import Knowledge, Record
    from trainer.source.capture import SourceBundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """A finished rerun of a record."""

    record: Record
    folder: Path
    image: Knowledge


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """A run, its rerun, and their comparison."""

    original: RunOnDisk
    rerun: Rerun
    comparison: Comparison
    retest: Retest

    @property
    def lines(self) -> list[str]:
        """The result as text."""
        lines = [headline(self.comparison), *page(self.comparison, limit=12)]
        if self.retest.not_equal:
            lines += ["", "different from the record", *(f"  {line}" for line in self.retest.not_equal)]
        return lines

    @property
    def result(self) -> dict[str, Any]:
        """The result as JSON data."""
        return {"retest": self.retest.model_dump(mode="json"), "comparison": self.comparison.document()}


def main(argv: list[str]) -> int:
    """Rerun a record, or a chain of records; return the last verdict's exit code."""
    args = _parser().parse_args(argv)
    _require_consistent(args)
    if args.to is not None:
        from trainer.cli.reproduce.submit import submit

        return submit(args)
    signal.signal(signal.SIGTERM, _stop)
    rerun = None if args.resume_or_begin is None else rerun_folder(args.resume_or_begin)
    try:
        return _reproduce_all(args, rerun)
    except StoppedError as stop:
        if rerun is None or isinstance(stop, InterruptedRunError) or not is_resumable(rerun):
            raise
        raise PreemptedError(stop.message, hint="the same command resumes the rerun") from stop


def _reproduce_all(args: Namespace, rerun: Path | None) -> int:
    if not IMAGE_FILE.exists():
        wake_store()
    original = find_run(args.run)
    runs = [*_ancestors(original), original] if args.chain else [original]
    done: list[Reproduction] = []
    for each in runs:
        last = done[-1].rerun if done else None
        parent = ParentSource(folder=last.folder, parent=last.record) if last else ParentSource(folder=each.folder)
        done.append(_reproduce(each, args, parent, rerun))
    result, lines = done[-1].result, done[-1].lines
    if args.chain:
        result |= {"chain": [each.result for each in done]}
        rows = [f"  run {each.original.record.run}: {each.comparison.verdict.level}" for each in done]
        lines += ["", "chain, each run from the weights of the rerun before it", *rows]
    print_result(result, lines, as_json=args.json)
    return done[-1].comparison.verdict.level.code


def _ancestors(original: RunOnDisk) -> list[RunOnDisk]:
    """Return the runs from which a run descends, the first run first; runs that are only in the store are pulled.

    Raise `RunNotFoundError` if a run is not found, `DigestMismatchError` if its child began with other weights than those of its record.
    """
    lineage: list[RunOnDisk] = []

    def find(run: str) -> Record:
        try:
            lineage.append(find_run(run))
        except RunNotFoundError as fault:
            child = lineage[-1] if lineage else original
            message = f"run {child.record.run} began with the weights of run {run}, which is not found: {fault.message}"
            hint = f"without --chain, the copy of these weights in its folder is used: reprise reproduce {original.record.run}"
            raise RunNotFoundError(message, hint=hint) from fault
        return lineage[-1].record

    for each in ancestors(original.record, find):
        if each.has_other_weights:
            message = f"the recorded weights of run {each.run} are not those that its child began with"
            raise DigestMismatchError(message, hint="one of the records was altered: do not use them")
    return lineage[::-1]


def _reproduce(original: RunOnDisk, args: Namespace, parent: ParentSource, folder: Path | None) -> Reproduction:
    """Rerun a record, compare the results, and keep the retest; `folder` is the rerun's folder, if the user chose its ID."""
    if original.record.outcome.status is not RunStatus.RUNNING:
        require_outcome(original.record)
    print_progress(f"reprise: rerun of run {original.record.run}")
    granted = grants(args.grant)
    runner = choose_runner(original.record, in_process=args.no_container, granted=granted)
    word = TrustDecision(trusted=args.trust, granted=granted, command=f"reprise reproduce {original.record.run}")
    # ask before any dataset or image is requested: the record may name a registry of its author
    own = require_trust(original.record, original.folder, word, is_isolated=runner.is_isolated)
    bundle = _require_reproducible(original, runner, exact=not (args.no_container or args.allow_drift))
    unequal = runner.not_equal(original.record)
    for line in unequal:
        print_progress(f"not equal: {line}")
    hashed = _hash_installed(original.record, runner) if args.deep else None
    existing = None if folder is None else existing_rerun(folder, original.record, own=own)
    rerun = _rerun(original, bundle, runner, own=own, parent=parent, existing=existing)
    sources = EvidenceSources(runs=runs_folder(), cache=cache_folder())
    comparison = compare(load_compared_run(original.folder), load_compared_run(rerun.folder), sources=sources)
    retest = _retest(original, rerun, comparison, runner=runner)
    changed = differing(original.record, rerun.record)
    retest = retest.model_copy(update={"not_equal": [*unequal, *changed], "hashed": hashed})
    _save_retest(original, rerun, retest, document(comparison))
    return Reproduction(original=original, rerun=rerun, comparison=comparison, retest=retest)


def _stop(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a scheduler may repeat SIGTERM while the rerun closes its record
    raise StoppedError("stopped by SIGTERM", hint="repeat the command")


def _require_consistent(args: Namespace) -> None:
    """Raise `UsageError` for options that contradict each other."""
    for given, option in ((args.to, "--to"), (args.resume_or_begin, f"--{OPTION}")):
        if given is not None and args.chain:
            message = f"--chain with {option}: a chain has several reruns"
            raise UsageError(
                message, hint=f"reproduce each run by itself: reprise reproduce {args.run} {option} {given}"
            )
    if args.to is None:
        if args.dry_run:
            raise UsageError("--dry-run prints a job, but no cluster is named", hint="--to SITE")
        return
    for is_given, option, reason in (
        (args.no_container, "--no-container", "the job starts the recorded image"),
        (args.resume_or_begin is not None, f"--{OPTION}", "the job has an ID of its own"),
    ):
        if is_given:
            raise UsageError(f"found {option} with --to: {reason}", hint=f"remove {option}, or --to")


def _parser() -> Arguments:
    parser = Arguments(
        "reprise reproduce",
        "Rerun a recorded run from its source in its image, and compare the results. Exit codes: 0 identical, 10 within tolerance, "
        "11 within noise, 20 different, 30 not comparable; docs/reference/exit-codes.md.",
    )
    parser.add_argument("run", metavar="RUN", help=f"{RUN_HELP}; on this machine or in the store")
    trust_options(parser)
    parser.add_argument(
        "--no-container", action="store_true", help="rerun in this environment and list its differences from the image"
    )
    parser.add_argument("--deep", action="store_true", help="hash every installed file of the image first")
    parser.add_argument(
        "--allow-drift",
        action="store_true",
        help="rerun even if the original run used packages that differ from its image",
    )
    parser.add_argument(
        "--chain",
        action="store_true",
        help="first rerun the runs from which RUN's initial weights descend, oldest first; each rerun passes its weights to the next",
    )
    parser.add_argument(
        f"--{OPTION}",
        metavar="NEW",
        help="ID of the rerun: begin the rerun, or resume it if it was stopped; for a job that runs the same command at each start",
    )
    parser.add_argument(
        "--to",
        metavar="SITE",
        help="rerun as a job of a Slurm cluster: a name in sites/, without .toml; `reprise logs` prints the job's output",
    )
    parser.add_argument("--dry-run", action="store_true", help=DRY_RUN_HELP)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _require_reproducible(original: RunOnDisk, runner: Runner, *, exact: bool) -> SourceBundle:
    """Print the requirements of the rerun and return the verified source. Raise `IrreproducibleError` if something is missing."""
    machine = replace(runner.machine(), exact=exact)
    findings = list(examine_run(original.record, original.folder, machine=machine))
    for each in findings:
        print_progress(f"  {each.about:9} {each.found}")
        if each.remedy:
            print_progress(f"  {'':9} -> {spelled(each.remedy)}")
    require_reproducible(findings)
    return load_bundle(original.folder / ARCHIVE, digest=original.record.ingredients.source)


def _rerun(
    original: RunOnDisk,
    bundle: SourceBundle,
    runner: Runner,
    *,
    own: bool,
    parent: ParentSource,
    existing: ExistingRerun | None = None,
) -> Rerun:
    """Rerun the record; if the code is the user's `own`, register the attempt even if it fails."""
    if existing is not None and existing.image is not None:
        print_progress(f"  run       {existing.folder.name} is completed: it is compared")
        return Rerun(record=load_rerun_record(existing.folder), folder=existing.folder, image=existing.image)
    with prepare_rerun(
        original.record,
        bundle,
        runs=runs_folder(),
        initial=parent,
        existing=existing.folder if existing else None,
        resumes=existing is not None and existing.is_begun,
        more=() if own else ("--trust",),  # the user's decision about the run applies to its rerun
    ) as ready:
        print_progress(f"  run       {ready.run}{', resumed' if ready.resumes else ''}, {runner.isolation}")
        runner.provide_datasets(
            [item for item in find_datasets(original.record, bundle) if isinstance(item, Dataset)], ready
        )
        try:
            code, image = runner.run(ready)
        except (KeyboardInterrupt, StoppedError) as stop:
            raise _interruption(ready, stop) from stop
        finally:
            if own:
                register_attempts(ready.folder)
        if code == PreemptedError.code:
            raise PreemptedError("the rerun was stopped by SIGTERM", hint="repeat the command")
        if code:
            raise RunError(f"the rerun ended with exit code {code}", hint="see the output above")
        return Rerun(record=load_rerun_record(ready.folder), folder=ready.folder, image=image)


def _interruption(ready: PreparedRerun, stop: BaseException) -> StoppedError:
    """Return the error for a stopped rerun; it names the kept run and the commands that finish it."""
    kind, cause = (StoppedError, "SIGTERM") if isinstance(stop, StoppedError) else (InterruptedRunError, "Ctrl-C")
    if not recorded_attempts(ready.folder):
        return kind(f"stopped by {cause}: the rerun has no record", hint="repeat the command")
    run, status = ready.run, record_of(ready.folder).outcome.status
    finish = f"`reprise train --resume {run}` finishes it, then `reprise compare {ready.original.run} {run}`"
    message = f"stopped by {cause}: the rerun, run {run}, is {status} and kept in {ready.folder}"
    return kind(message, hint=f"{finish}; or remove that folder")


def _hash_installed(record: Record, runner: Runner) -> int:
    """Return the number of installed files with the recorded digests. Raise `DriftError` for an altered file."""
    unaltered, altered = runner.altered(record)
    if altered:
        raise DriftError(f"the image is damaged: {altered[0]}", hint="remove it and fetch or build it again")
    print_progress(f"  hashed    {counted(unaltered, 'installed file')}, equal to those of their distributions")
    return unaltered


def differing(original: Record, rerun: Record) -> list[str]:
    """Return a line for each ingredient of the rerun that differs from the original's."""
    if original.identity == rerun.identity:
        return []
    before, after = (each.ingredients.model_dump(mode="json") for each in (original, rerun))
    return [
        f"ingredient {name}: {before[name]} was recorded, but the rerun has {after[name]}"
        for name in before
        if before[name] != after[name]
    ]


def document(comparison: Comparison) -> bytes:
    """Return the canonical evidence, as a store keeps it."""
    return canonical(comparison.document())


def _retest(original: RunOnDisk, rerun: Rerun, comparison: Comparison, *, runner: Runner) -> Retest:
    circumstances = rerun.record.circumstances
    return Retest(
        original=run_identity(original.record),
        retest=run_identity(rerun.record),
        when=datetime.now(UTC),
        who=user_name(),
        host=host_name(),
        device=device_class(rerun.record),
        how=runner.how,
        image=rerun.image,
        drift=list(dict.fromkeys([*circumstances.drift, *(circumstances.drift_at_end or [])])),
        verdict=comparison.verdict.level,
        evidence=digest_of_bytes(document(comparison)),
    )


def _save_retest(original: RunOnDisk, rerun: Rerun, retest: Retest, evidence: bytes) -> None:
    """Write the retest into the original's folder; publish it if the original is published. Print errors instead of raising them."""
    try:
        print_progress(f"  retest    {save_retest(original.folder, retest, evidence=evidence)}")
    except RepriseError as fault:
        print_progress(f"  not kept: {fault.message}")
    address = store_address()
    if address is None or not original.published:
        return
    try:
        store = store_at(address)
        publish_run(rerun.folder, store)
        publish_retest(retest, store, evidence=evidence)
        print_progress(f"  published {store.label}")
    except RepriseError as fault:
        print_progress(f"  not published: {fault.message}")
