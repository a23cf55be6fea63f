"""`reprise why A B`: find which differing ingredients cause two runs to diverge.

The command finds the first difference of the traces, lists the ingredients that can be swapped, and attributes the difference by short runs
with swapped ingredients. A short run is started as `reprise reproduce` does, by default in a container of the recorded image without
network access. It is stopped and removed once it is past the step in question. A cause that was not confirmed in both directions is
reported as not confirmed.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from trainer.base.errors import RepriseError, RunError, UnsafePathError, UsageError
from trainer.base.safe_folder import Root
from trainer.base.suggestions import counted
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import runs_folder
from trainer.cli.find_run import RUN_HELP, find_run
from trainer.cli.formatting import columns
from trainer.cli.output import print_progress
from trainer.cli.runner import choose_runner
from trainer.cli.trust import TrustDecision, grants, require_trust, trust_options
from trainer.comparison.attribution import NONE, MatchedRun, RunInputs, attribute, hybrid, possible_swaps, unswappable
from trainer.comparison.examine_run import examine_run, find_datasets, require_reproducible
from trainer.comparison.reproduce import ParentSource, prepare_rerun
from trainer.comparison.trace import FILE, Trace, first_difference, last_written_step, read_trace
from trainer.comparison.verdict import VerdictLevel
from trainer.data.declaration import Dataset
from trainer.runs.image_file import IMAGE_FILE
from trainer.runs.run import ATTEMPTS
from trainer.source.capture import ARCHIVE
from trainer.source.copy import load_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trainer.cli.runner import Runner
    from trainer.comparison.attribution import Attribution, Swaps
    from trainer.comparison.reproduce import PreparedRerun
    from trainer.comparison.trace import Difference

_POLL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedRun:
    """A run to explain: its record and source, its trace, and its folder."""

    inputs: RunInputs
    trace: Trace
    folder: Path


def main(argv: list[str]) -> int:
    """Find the cause and print it; return 0 if a cause was found or the runs do not differ, 30 if no cause was found."""
    args = _parser().parse_args(argv)
    if args.steps is not None and args.steps < 1:
        raise UsageError(f"--steps is {args.steps}; expected 1 or more", hint="--steps 3")
    granted = grants(args.grant)
    admission = TrustDecision(trusted=args.trust, granted=granted, command=f"reprise why {args.a} {args.b}")
    a, b = (_load(word, admission, in_process=args.no_container) for word in (args.a, args.b))
    difference = _first_difference(a, b)
    if difference is None:
        steps = counted(_common_steps(a, b), "step")
        text = f"nothing to explain: A and B are equal in {steps}, all that both traces contain"
        print(json.dumps({"attributed": None, "first_difference": None}) if args.json else text)
        return VerdictLevel.IDENTICAL.code
    images = not (args.no_container or IMAGE_FILE.exists())
    swaps = [*possible_swaps(a.inputs, b.inputs, images=images)]
    unswapped = [*unswappable(a.inputs, b.inputs, images=images)]
    if not swaps:
        hint = "; ".join(unswapped) or "`reprise compare A B` shows the other differences"
        raise RunError("nothing that differs between A and B can be swapped", hint=hint)
    through = max(difference.step, args.steps or 0)
    runs = HybridRuns(a=a, b=b, through=through, in_process=args.no_container, granted=granted)
    location = f"step {difference.step}, stream {difference.stream}"
    print_progress(f"reprise: A and B diverge at {location}; {counted(len(swaps), 'ingredient')} can be swapped")
    explanation = Explanation(
        attribution=attribute(swaps, runs.compare),
        difference=difference,
        through=through,
        unswapped=unswapped,
        notes=runs.notes,
    )
    print(json.dumps(document(explanation)) if args.json else "\n".join(page(explanation)))
    return 0 if explanation.attribution.sets else VerdictLevel.NOT_COMPARABLE.code


def _parser() -> Arguments:
    summary = (
        "Find the ingredient that makes two runs diverge, by short runs that swap ingredients. "
        "Exit codes: 0 attributed, or no difference; 30 not attributed; docs/reference/exit-codes.md."
    )
    parser = Arguments("reprise why", summary)
    parser.add_argument("a", metavar="A", help=f"{RUN_HELP}; on this machine or in the store")
    parser.add_argument("b", metavar="B", help=f"second {RUN_HELP}; on this machine or in the store")
    parser.add_argument(
        "--steps", type=int, metavar="N", help="compare at least N steps (default: up to the first difference)"
    )
    trust_options(parser)
    no_container = "run in this environment instead of a container of the recorded image"
    parser.add_argument("--no-container", action="store_true", help=no_container)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _load(name: str, admission: TrustDecision, *, in_process: bool) -> ExplainedRun:
    """Load a run to explain. Raise `RepriseError` if a file is missing, or if the run is a script or is not trusted."""
    run = find_run(name)
    if run.record.ingredients.kind == "script":
        message = f"run {run.record.run} ran a script, which has no trace of its steps"
        raise UsageError(message, hint="`reprise compare A B` shows the outputs that differ")
    runner = choose_runner(run.record, in_process=in_process)
    require_trust(run.record, run.folder, admission, is_isolated=runner.is_isolated)
    trace = read_trace(run.folder / ATTEMPTS / str(run.record.attempt) / FILE)
    findings = examine_run(run.record, run.folder, machine=replace(runner.machine(), exact=False))
    require_reproducible([finding for finding in findings if finding.about != "outcome"])
    bundle = load_bundle(run.folder / ARCHIVE, digest=run.record.ingredients.source)
    return ExplainedRun(inputs=RunInputs(record=run.record, bundle=bundle), trace=trace, folder=run.folder)


def _first_difference(a: ExplainedRun, b: ExplainedRun) -> Difference | None:
    if a.folder == b.folder:
        raise UsageError("A and B are the same run", hint="name two different runs")
    if not _common_steps(a, b):
        message = "the traces of A and B have no step in common, so they cannot be compared"
        raise RunError(message, hint="compare runs that took a step, with --trace on")
    return first_difference(a.trace, b.trace)


def _common_steps(a: ExplainedRun, b: ExplainedRun) -> int:
    return min(a.trace.steps, b.trace.steps)


def require_steps(trace: Trace, *, through: int) -> None:
    """Raise `RunError` if a run ended before step `through`, so that it cannot be compared."""
    if trace.steps < through:
        raise RunError(
            f"the short run ended after step {trace.steps}; expected {through} steps", hint="see the output above"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridRuns:
    """The short runs: A with some ingredients of B, up to step `through`."""

    a: ExplainedRun
    b: ExplainedRun
    through: int
    in_process: bool
    granted: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)

    def compare(self, swapped: Swaps) -> MatchedRun:
        """Start a hybrid run, and return which run it matches."""
        ingredients = " and ".join(map(str, sorted(swapped))) if swapped else "nothing"
        print_progress(f"reprise: a run of A with {ingredients} of B, {counted(self.through, 'step')}")
        try:
            trace = self._trace(hybrid(self.a.inputs, self.b.inputs, swapped))
        except RepriseError as fault:
            if swapped == NONE:
                raise
            self.notes.append(f"A with {ingredients} of B could not be run: {fault.message}")
            return MatchedRun.NONE
        result = MatchedRun.OTHER
        for match, run in ((MatchedRun.A, self.a), (MatchedRun.B, self.b)):
            difference = first_difference(run.trace, trace)
            is_equal = difference is None or difference.step > self.through
            if trace.header.layout == run.trace.header.layout and is_equal:
                result = match
                break
            if difference is not None and (match is MatchedRun.A) == (swapped == NONE):
                location = f"step {difference.step}, stream {difference.stream}"
                self.notes.append(f"A with {ingredients} of B diverges from {match.name} at {location}")
        print_progress(f"  {result}")
        return result

    def _trace(self, inputs: RunInputs) -> Trace:
        runner = choose_runner(inputs.record, in_process=self.in_process, granted=self.granted)
        initial = ParentSource(folder=self.a.folder)
        with prepare_rerun(inputs.record, inputs.bundle, runs=runs_folder(), initial=initial) as ready:
            runner.provide_datasets(
                [item for item in find_datasets(inputs.record, inputs.bundle) if isinstance(item, Dataset)], ready
            )
            path = ready.folder / ATTEMPTS / "1" / FILE
            try:
                code = _run(runner, ready, path, through=self.through)
                if not path.is_file():
                    message = f"the short run ended with exit code {code} before its first step"
                    raise RunError(message, hint="see the output above")
                trace = read_trace(path)
                require_steps(trace, through=min(self.through, _common_steps(self.a, self.b)))
                return trace
            finally:
                with suppress(OSError, UnsafePathError), Root.at(ready.folder.parent) as runs:
                    runs.remove_tree(ready.folder.name)


def _run(runner: Runner, ready: PreparedRerun, path: Path, *, through: int) -> int:
    """Run until the trace in `path` is past step `through` or the run has ended; return the exit code."""
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(runner.run, ready)
        try:
            while not wait([ending], timeout=_POLL).done and last_written_step(path) <= through:
                pass
        finally:
            if not ending.done():
                runner.kill(ready)
    return ending.result()[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """An attribution with its evidence."""

    attribution: Attribution
    difference: Difference
    """The first difference of the two runs."""
    through: int
    """The last step of the short runs."""
    unswapped: Sequence[str]
    """One line per difference that cannot be swapped."""
    notes: Sequence[str]


def page(explanation: Explanation) -> Iterator[str]:
    """Yield the attribution, then its evidence."""
    result, difference, through = explanation.attribution, explanation.difference, explanation.through
    yield headline(result, difference)
    if result.sets and result.confirmed:
        yield f"  confirmed: B with this taken from A matches A through step {through}"
    elif result.sets:
        yield f"  not confirmed: B with this taken from A does not match A through step {through}, so something else also has an effect"
    quantity = difference.tensor or difference.quantity or "fingerprint"
    values = f"{difference.a} in A, {difference.b} in B"
    yield f"  A and B diverge at step {difference.step}, stream {difference.stream}, {quantity}: {values}"
    if result.matches:
        rows = [(str(swap), str(match)) for swap, match in result.matches.items()]
        yield from ("", f"A with one ingredient of B, through step {through}", *(f"  {line}" for line in columns(rows)))
    if explanation.unswapped or explanation.notes:
        yield from ("", "also", *(f"  not swapped: {line}" for line in explanation.unswapped))
        yield from (f"  {line}" for line in explanation.notes)


def headline(result: Attribution, difference: Difference) -> str:
    """Return the conclusion in one line."""
    if result.failed == "A":
        return "not attributed: rerunning A here does not reproduce the result of A, so no difference can be attributed"
    if result.failed == "B":
        return "not attributed: A with every swappable ingredient of B does not match B"
    first, step = result.sets[0], f"from step {difference.step} on"
    if len(result.sets) > 1:
        return f"attributed: {' or '.join(map(_names, result.sets))}: each of them alone makes the difference {step}"
    if len(first) == 1:
        return f"attributed: {_names(first)} alone makes the difference {step}"
    alone = [result.matches.get(swap) for swap in first]
    effective = [match for match in alone if match is not MatchedRun.A]
    if MatchedRun.NONE in alone:
        effect = "not all of them can be run alone"
    elif not effective:
        effect = "none alone"
    else:
        effect = "each alone matches neither run" if len(effective) == len(first) else "not all of them alone"
    return f"attributed: {effect}; together {_names(first)} make the difference {step}"


def _names(swapped: Swaps) -> str:
    return " and ".join(map(str, sorted(swapped)))


def document(explanation: Explanation) -> dict[str, Any]:
    """Return the attribution as JSON data."""
    result = explanation.attribution
    return {
        "attributed": [sorted(map(str, each)) for each in result.sets] or None,
        "confirmed": result.confirmed,
        "failed": result.failed,
        "summary": headline(result, explanation.difference),
        "first_difference": asdict(explanation.difference),
        "through": explanation.through,
        "matches": {str(swap): match for swap, match in result.matches.items()},
        "not_swapped": list(explanation.unswapped),
        "notes": list(explanation.notes),
    }
