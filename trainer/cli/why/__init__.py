"""`reprise why A B`: find which differing ingredients cause two runs to diverge.

The command finds the first difference of the traces, lists the ingredients that can be swapped, and attributes the difference by short runs
with swapped ingredients. A short run is made like `reprise reproduce` makes it, in the recorded image and without network; it is stopped
and removed once it is past the step in question. A cause that was not confirmed in both directions is reported as not confirmed.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DocumentError, RepriseError, RunError, UnsafePathError, UsageError
from trainer.base.run_files import read_run_file
from trainer.base.safe_folder import Root
from trainer.base.suggestions import counted
from trainer.cli.arguments import Arguments
from trainer.cli.output import print_progress
from trainer.cli.places import runs_folder
from trainer.cli.reproduce.original import original
from trainer.cli.runner import runner
from trainer.cli.trust import Word, grants, require_trust, trust_options
from trainer.cli.why.page import document, page
from trainer.comparison.attribution import NONE, Way, attribute
from trainer.comparison.examine_run import examine_run, looked_up, require
from trainer.comparison.reproduce import prepared
from trainer.comparison.swap import Made, hybrid, swaps, unswappable
from trainer.comparison.trace import FILE, LARGEST, Trace, first_difference, read_trace
from trainer.comparison.verdict import Rung
from trainer.data.declaration import Dataset
from trainer.runs.image_claim import BAKED
from trainer.runs.run import ATTEMPTS
from trainer.source.capture import ARCHIVE
from trainer.source.copy import load_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.cli.runner import Runner
    from trainer.comparison.attribution import Swaps
    from trainer.comparison.reproduce import Prepared
    from trainer.comparison.trace import Difference

_POLL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A run to explain: its record and source, its trace, and its folder."""

    made: Made
    trace: Trace
    folder: Path


def main(argv: list[str]) -> int:
    """Find the cause and print it; return 0 if a cause was found, 30 if none could be found."""
    words = _parser().parse_args(argv)
    granted = grants(words.grant)
    given = Word(trusted=words.trust, granted=granted, command=f"reprise why {words.a} {words.b}")
    a, b = (_side(word, given, here=words.no_container) for word in (words.a, words.b))
    parting = _parting(a, b)
    if parting is None:
        print(
            json.dumps({"attributed": None, "parting": None})
            if words.json
            else f"nothing to explain: A and B go the same way in {counted(_common(a, b), 'step')}, the last step in both traces"
        )
        return Rung.IDENTICAL.code
    through = max(parting.step, words.steps or 0)
    images = not (words.no_container or BAKED.exists())
    found = [*swaps(a.made, b.made, images=images)]
    rest = [*unswappable(a.made, b.made, images=images)]
    if not found:
        raise RunError(
            "nothing that differs between A and B can be swapped",
            hint="; ".join(rest) or "reprise compare A B says what differs around them",
        )
    probes = Probes(a=a, b=b, through=through, here=words.no_container, granted=granted, notes=[])
    print_progress(
        f"reprise: A and B diverge at step {parting.step}, stream {parting.stream}; {counted(len(found), 'ingredient')} can be swapped"
    )
    attribution = attribute(found, probes.go)
    if words.json:
        print(json.dumps(document(attribution, parting, through=through, rest=rest, notes=probes.notes)))
    else:
        print("\n".join(page(attribution, parting, through=through, rest=rest, notes=probes.notes)))
    return 0 if attribution.sets else Rung.NOT_COMPARABLE.code


def _parser() -> Arguments:
    parser = Arguments(
        "reprise why",
        "Find the ingredient that makes two runs diverge, by short runs that swap one ingredient at a time.",
    )
    parser.add_argument(
        "a", metavar="A", help="run on this machine or in the store: ID, start of an ID, `latest`, or folder"
    )
    parser.add_argument("b", metavar="B", help="second run")
    parser.add_argument("--steps", type=int, metavar="N", help="run N steps, if the runs diverge within them")
    trust_options(parser)
    parser.add_argument(
        "--no-container",
        action="store_true",
        help="run in this environment instead of a container of the recorded image",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _side(word: str, given: Word, *, here: bool) -> Side:
    """Return a run for which nothing is missing. Raise `RepriseError` if something is missing or its code may not be run."""
    found = original(word)
    there = runner(found.record, here=here)
    require_trust(found.record, found.folder, given, is_isolated=there.is_isolated)
    attempt = found.folder / ATTEMPTS / str(found.record.attempt)
    trace = read_trace(attempt / FILE)
    findings = examine_run(found.record, found.folder, machine=replace(there.machine(), exact=False))
    require([finding for finding in findings if finding.about != "outcome"])
    bundle = load_bundle(found.folder / ARCHIVE, digest=found.record.ingredients.source)
    return Side(made=Made(record=found.record, bundle=bundle), trace=trace, folder=found.folder)


def _parting(a: Side, b: Side) -> Difference | None:
    if a.folder == b.folder:
        raise UsageError("A and B are the same run", hint="name two")
    if not _common(a, b):
        raise RunError("the traces of A and B have no step in common, so nothing is known of their ways", hint=_TRACED)
    return first_difference(a.trace, b.trace)


def _common(a: Side, b: Side) -> int:
    """Return the number of steps in both traces."""
    return min(a.trace.steps, b.trace.steps)


def require_followed(trace: Trace, *, through: int) -> None:
    """Raise `RunError` if a run ended before step `through`, so that it cannot be compared."""
    if trace.steps < through:
        raise RunError(f"it ended after step {trace.steps}; expected {through} steps", hint="the lines above say why")


_TRACED: Final = "compare runs that made a step, with --trace on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """The short runs: A with some ingredients of B, up to step `through`."""

    a: Side
    b: Side
    through: int
    here: bool
    notes: list[str]
    granted: frozenset[str] = frozenset()

    def go(self, swapped: Swaps) -> Way:
        """Make a run, and return which run it matches."""
        what = " and ".join(map(str, sorted(swapped))) if swapped else "nothing"
        print_progress(f"reprise: a run of A with {what} of B, {counted(self.through, 'step')}")
        try:
            trace = self._trace(hybrid(self.a.made, self.b.made, swapped))
        except RepriseError as fault:
            if swapped == NONE:
                raise
            self.notes.append(f"A with {what} of B could not be run: {fault.message}")
            return Way.NONE
        for way, side in ((Way.A, self.a), (Way.B, self.b)):
            difference = first_difference(side.trace, trace)
            if trace.header.layout == side.trace.header.layout and (
                difference is None or difference.step > self.through
            ):
                print_progress(f"  goes {way}")
                return way
            if difference is not None and (way is Way.A) == (swapped == NONE):
                self.notes.append(
                    f"A with {what} of B parts from {way.name} at step {difference.step}, stream {difference.stream}"
                )
        print_progress(f"  goes {Way.OTHER}")
        return Way.OTHER

    def _trace(self, made: Made) -> Trace:
        there = runner(made.record, here=self.here, granted=self.granted)
        with prepared(made.record, made.bundle, runs=runs_folder()) as ready:
            there.lend([item for item in looked_up(made.record, made.bundle) if isinstance(item, Dataset)], ready)
            try:
                code = _run(there, ready, through=self.through)
                path = ready.folder / ATTEMPTS / "1" / FILE
                if not path.is_file():
                    raise RunError(
                        f"it ended with exit code {code} before its first step", hint="the lines above say why"
                    )
                trace = read_trace(path)
                require_followed(trace, through=min(self.through, _common(self.a, self.b)))
                return trace
            finally:
                with suppress(OSError, UnsafePathError), Root.at(ready.folder.parent) as runs:
                    runs.remove_tree(ready.folder.name)


def _run(there: Runner, ready: Prepared, *, through: int) -> int:
    """Run until the trace is past a step or the run has ended; return the exit code."""
    codes: list[Any] = []

    def work() -> None:
        try:
            codes.append(there.run(ready)[0])
        except RepriseError as fault:
            codes.append(fault)

    thread = Thread(target=work, daemon=True)
    thread.start()
    path = ready.folder / ATTEMPTS / "1" / FILE
    try:
        while thread.is_alive() and not _past(path, through):
            thread.join(_POLL)
    finally:
        if thread.is_alive():
            there.kill(ready)
        thread.join()
    if isinstance(codes[0], RepriseError):
        raise codes[0]
    return int(codes[0])


def _past(path: Path, step: int) -> bool:
    """Return whether a trace contains a later step, so that the given step is complete."""
    try:
        lines = read_run_file(path, most=LARGEST).count(b'\n{"step":')
    except DocumentError:
        return False
    return lines > step
