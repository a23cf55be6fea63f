"""`reprise retest RUN|PACKAGE`: test saved weights again, without training, and compare the metrics with the measured ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.cli.arguments import Arguments
from trainer.cli.containers import run_in_image
from trainer.cli.find_package import known_package
from trainer.cli.find_run import RUN_HELP, find_run
from trainer.cli.formatting import value_text
from trainer.cli.machine import can_train
from trainer.cli.output import one_line, print_json
from trainer.cli.packages import compared_text, outputs_text
from trainer.cli.saved_weights import fetched_samples, require_variables
from trainer.cli.trust import TrustDecision, grants, require_trust, trust_options
from trainer.models.package import open_package

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.models.retest import Retested
    from trainer.runs.record import Record


def main(argv: list[str]) -> int:
    """Test again, print the metrics, and return the verdict's exit code."""
    args = _parser().parse_args(argv)
    if not can_train():
        return run_in_image(["retest", *argv])
    path = known_package(args.run)
    package = open_package(path) if path else None
    run = find_run(package.package.run if package else args.run)
    require_variables(
        run.record, ["retest", *(run.record.run if word == args.run and not package else word for word in argv)]
    )
    word = TrustDecision(trusted=args.trust, granted=grants(args.grant), command=f"reprise retest {args.run}")
    require_trust(run.record, run.folder, word, is_isolated=False, in_its_image=False)
    from trainer.models.retest import retest

    datasets = [*fetched_samples(run.record, run.folder)]
    found = retest(run.record, run.folder, datasets, package=package)
    if args.json:
        print_json(_document(run.record, found, package.package.digest if package else None))
    else:
        print("\n".join(_page(run.record, found)))
    return found.verdict.code


def _parser() -> Arguments:
    parser = Arguments(
        "reprise retest",
        "Test the saved weights of a run, or its model package, on the run's test split again, without training, and compare the metrics "
        "with those that the run measured. The exit code is the verdict's: 0 identical, 10 within tolerance, 20 different.",
    )
    parser.add_argument("run", metavar="RUN", help=f"{RUN_HELP}; or a model package: its folder or its name")
    parser.add_argument("--json", action="store_true", help="print metrics and verdict as JSON")
    trust_options(parser)
    return parser


def _document(record: Record, found: Retested, package: str | None) -> dict[str, object]:
    return {
        "run": record.run,
        "package": package,
        "verdict": found.verdict,
        "metrics": [each.model_dump(mode="json") for each in found.metrics],
        "outputs": found.outputs.model_dump(mode="json") if found.outputs else None,
    }


def _page(record: Record, found: Retested) -> Iterator[str]:
    yield f"run         {record.run}, experiment {one_line(record.ingredients.experiment)}"
    for number, each in enumerate(found.metrics):
        head = "" if number else "test split"
        yield f"{head:<12}{one_line(each.name)} {value_text(each.recomputed)}: {compared_text(each)}"
    if found.outputs:
        yield f"package     {found.outputs.samples:,} samples, compared with the run's net: {outputs_text(found.outputs)}"
    yield f"verdict     {found.verdict}"
