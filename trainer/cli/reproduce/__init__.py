"""`reprise reproduce RUN`: run a record again, from its own source, in its own image, and say whether the result is the same.

Knows the order: is it still possible, whose code is it, fetch, run, compare, keep. Refuses to run in any image but the recorded one,
unless `--no-container` says that the difference is accepted; what is therefore not equal is said and kept.
"""

from __future__ import annotations

import os
import pwd
import signal
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trainer.base.digest import canonical, digest_of_bytes
from trainer.base.errors import DriftError, InterruptedRunError, RepriseError, RunError, StoppedError
from trainer.base.suggestions import counted
from trainer.cli.arguments import Arguments
from trainer.cli.compare.page import headline, page
from trainer.cli.places import cache_folder, host_name, runs_folder, store_address, store_at
from trainer.cli.reproduce.original import Original, original
from trainer.cli.runner import runner
from trainer.cli.runner.on_host import wake_store
from trainer.cli.spelling import spelled
from trainer.cli.trust import Word, grants, require_trust, trust_options
from trainer.comparison.compare import Places, compare
from trainer.comparison.compare import side as compared
from trainer.comparison.examine_run import examine_run, looked_up, require, require_outcome
from trainer.comparison.keep_retest import keep_retest, publish_retest
from trainer.comparison.reproduce import left, prepared
from trainer.comparison.retest import Retest, device_class, side
from trainer.data.declaration import Dataset
from trainer.runs.image_claim import BAKED
from trainer.runs.publish import publish_run
from trainer.runs.record import Status
from trainer.runs.register import register_attempt
from trainer.runs.run import ATTEMPTS, record_of, recorded_attempts
from trainer.source.capture import ARCHIVE
from trainer.source.copy import load_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.cli.runner import Runner
    from trainer.comparison.compare import Comparison
    from trainer.comparison.reproduce import Prepared
    from trainer.runs.record import Knowledge, Record
    from trainer.source.capture import SourceBundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of running a record again."""

    record: Record
    folder: Path
    image: Knowledge


def main(argv: list[str]) -> int:
    """Run a record again; exit with the verdict."""
    words = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _stop)
    if not BAKED.exists():
        wake_store()
    found = original(words.run)
    if found.record.outcome.status is not Status.RUNNING:
        require_outcome(found.record)
    say(f"reprise: run {found.record.run} again")
    granted = grants(words.grant)
    there = runner(found.record, here=words.no_container, granted=granted)
    word = Word(trusted=words.trust, granted=granted, command=f"reprise reproduce {found.record.run}")
    # before anything of the record is asked for, at a registry of its choosing too
    own = require_trust(found.record, found.folder, word, is_isolated=there.is_isolated)
    bundle = _possible(found, there, exact=not (words.no_container or words.allow_drift))
    unequal = there.not_equal(found.record)
    for line in unequal:
        say(f"not equal: {line}")
    hashed = _hashed(found.record, there) if words.deep else None
    done = _again(found, bundle, there, own=own)
    comparison = _compared(found, done)
    retest = _retest(found, done, comparison, there=there)
    changed = differing(found.record, done.record)
    retest = retest.model_copy(update={"not_equal": [*unequal, *changed], "hashed": hashed})
    _keep(found, done, retest, document(comparison))
    _show(retest, comparison, as_json=words.json)
    return comparison.verdict.rung.code


def _stop(*_: object) -> None:
    raise StoppedError("stopped by SIGTERM", hint="run the same command again")


def _parser() -> Arguments:
    parser = Arguments("reprise reproduce", "Rerun a record and report whether the result matches.")
    parser.add_argument("run", help="run on this machine or in the store: ID, start of an ID, `latest`, or folder")
    trust_options(parser)
    parser.add_argument(
        "--no-container",
        action="store_true",
        help="run in this environment instead of a container of the recorded image, and list the differences",
    )
    parser.add_argument("--deep", action="store_true", help="hash every installed file of the image first")
    parser.add_argument(
        "--allow-drift", action="store_true", help="accept a recorded environment that had drifted from its image"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def say(line: str) -> None:
    """Tell a person, beside the results; the line may hold a stranger's words."""
    print(line, file=sys.stderr, flush=True)


def _possible(found: Original, there: Runner, *, exact: bool) -> SourceBundle:
    """The verified source of a run for which nothing is missing. Raises `IrreproducibleError`."""
    machine = replace(there.machine(), exact=exact)
    findings = list(examine_run(found.record, found.folder, machine=machine))
    for finding in findings:
        say(f"  {finding.about:9} {finding.found}")
        if finding.remedy:
            say(f"  {'':9} -> {spelled(finding.remedy)}")
    require(findings)
    return _source(found)


def _source(found: Original) -> SourceBundle:
    return load_bundle(found.folder / ARCHIVE, digest=found.record.ingredients.source)


def _again(found: Original, bundle: SourceBundle, there: Runner, *, own: bool) -> Done:
    """Run it; a retest of the user's own code is an attempt of the user's own, however it ended."""
    with prepared(found.record, bundle, runs=runs_folder()) as ready:
        say(f"  run       {ready.run}, {there.isolation}")
        there.lend([item for item in looked_up(found.record, bundle) if isinstance(item, Dataset)], ready)
        try:
            code, image = there.run(ready)
        except (KeyboardInterrupt, StoppedError) as stop:
            raise _broken_off(ready, stop) from stop
        finally:
            if own:
                _register(ready.folder)
        if code:
            raise RunError(f"the retest ended with exit code {code}", hint="the lines above say why")
        return Done(record=left(ready), folder=ready.folder, image=image)


def _register(folder: Path) -> None:
    for number in recorded_attempts(folder):
        try:
            register_attempt(folder / ATTEMPTS / str(number))
        except (RepriseError, OSError) as fault:
            say(f"  not registered as your own: {fault}")


def _broken_off(ready: Prepared, stop: BaseException) -> StoppedError:
    """Name what a retest that was stopped has left, and what can be done with it."""
    kind, by = (StoppedError, "SIGTERM") if isinstance(stop, StoppedError) else (InterruptedRunError, "Ctrl-C")
    if not recorded_attempts(ready.folder):
        return kind(f"stopped by {by}: nothing is left of the retest", hint="run the same command again")
    run, said = ready.run, record_of(ready.folder).outcome.status
    hint = f"`reprise train --resume {run}` brings it to its end, then `reprise compare {ready.original.run} {run}`; or remove that folder"
    return kind(f"stopped by {by}: the retest, run {run}, is {said} and kept in {ready.folder}", hint=hint)


def _hashed(record: Record, there: Runner) -> int:
    right, altered = there.altered(record)
    if altered:
        raise DriftError(f"the image is damaged: {altered[0]}", hint="remove it and fetch or build it again")
    say(f"  hashed    {counted(right, 'installed file')}, as their distributions say")
    return right


def differing(one: Record, other: Record) -> list[str]:
    """Which ingredients of a retest are not the original's, a line each: none, if all is well."""
    if one.identity == other.identity:
        return []
    before, after = (each.ingredients.model_dump(mode="json") for each in (one, other))
    return [
        f"ingredient {name}: {before[name]} was recorded, the retest has {after[name]}"
        for name in before
        if before[name] != after[name]
    ]


def _compared(found: Original, done: Done) -> Comparison:
    places = Places(runs=runs_folder(), cache=cache_folder())
    return compare(compared(found.folder), compared(done.folder), places=places)


def document(comparison: Comparison) -> bytes:
    """The evidence, as a store keeps it."""
    return canonical(comparison.document())


def _retest(found: Original, done: Done, comparison: Comparison, *, there: Runner) -> Retest:
    around = done.record.circumstances
    return Retest(
        original=side(found.record),
        retest=side(done.record),
        when=datetime.now(UTC),
        who=_who(),
        host=host_name(),
        device=device_class(done.record),
        how=there.how,
        image=done.image,
        drift=list(dict.fromkeys([*around.drift, *(around.drift_at_end or [])])),
        verdict=comparison.verdict.rung,
        evidence=digest_of_bytes(document(comparison)),
    )


def _keep(found: Original, done: Done, retest: Retest, evidence: bytes) -> None:
    """Write it down beside the original; bring both into the store, where the original is. What fails is said, and spoils no verdict."""
    try:
        say(f"  retest    {keep_retest(found.folder, retest, evidence=evidence)}")
    except RepriseError as fault:
        say(f"  not kept: {fault.message}")
    address = store_address()
    if address is None or not found.published:
        return
    try:
        store = store_at(address)
        publish_run(done.folder, store)
        publish_retest(retest, store, evidence=evidence)
        say(f"  published {store.label}")
    except RepriseError as fault:
        say(f"  not published: {fault.message}")


def _show(retest: Retest, comparison: Comparison, *, as_json: bool) -> None:
    if as_json:
        told = {"retest": retest.model_dump(mode="json"), "comparison": comparison.document()}
        print(canonical(told).decode())
        return
    print("\n".join([headline(comparison), *page(comparison, most=12)]))
    if retest.not_equal:
        print("\nnot equal to what was recorded")
        print("\n".join(f"  {line}" for line in retest.not_equal))


def _who() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
