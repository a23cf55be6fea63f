"""`reprise retest RUN|PACKAGE`: test saved weights again, without training, and compare the metrics with those that the run measured."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import MachineError
from trainer.base.safe_folder import Root, run_root
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import host_name, shown_path, user_name
from trainer.cli.containers import run_in_image
from trainer.cli.find_package import known_package
from trainer.cli.find_run import RUN_HELP, find_run
from trainer.cli.formatting import value_text
from trainer.cli.machine import can_train
from trainer.cli.output import one_line, print_json, print_notice
from trainer.cli.packages import KEY_HELP, compared_text, outputs_text
from trainer.cli.saved_weights import fetched_samples, require_variables
from trainer.cli.trust import TrustDecision, grants, require_trust, trust_options
from trainer.comparison.certificate import signing_key
from trainer.comparison.retest import FOLDER, Retest, run_identity
from trainer.models.package import open_package
from trainer.models.weights_retest import Evidence, save_weights_retest, sign_weights_retest
from trainer.runs.hardware import read_host
from trainer.runs.image_claim import claim_image

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

    from trainer.models.retest import Retested
    from trainer.runs.record import Record


def main(argv: list[str]) -> int:
    """Test again, write the retest, print the metrics, and return the verdict's exit code."""
    args = _parser().parse_args(argv)
    if args.key is not None:
        signing_key(args.key)  # report an invalid key before the test
    if not can_train():
        return _in_container(args, argv)
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
    evidence = _evidence(run.record, found, package.package.digest if package else None)
    saved = _save(
        _Place.of(package.path if package else None, run.folder), _retest(run.record, evidence), evidence, args
    )
    if args.json:
        document = evidence.model_dump(mode="json", exclude={"format"})
        print_json({**document, "package": evidence.package, "retest": str(saved) if saved else None})
    else:
        print("\n".join(_page(run.record, found)))
    return found.verdict.code


def _parser() -> Arguments:
    parser = Arguments(
        "reprise retest",
        "Test the saved weights of a run, or its model package, on the run's test split again, without training, and compare the metrics "
        "with those that the run measured. The result is written into the folder of the run or the package. Exit codes: 0 "
        "identical, 10 within tolerance, 20 different, 30 not comparable; docs/reference/exit-codes.md.",
    )
    parser.add_argument("run", metavar="RUN", help=f"{RUN_HELP}; or a model package: folder, name or digest")
    parser.add_argument("--key", type=Path, metavar="FILE", help=KEY_HELP)
    parser.add_argument("--json", action="store_true", help="print metrics and verdict as JSON")
    trust_options(parser)
    return parser


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """The folder of a package or of a run, into which a retest is written."""

    folder: Path
    opened: Callable[[Path], Root]

    @classmethod
    def of(cls, package: Path | None, run: Path) -> _Place:
        return cls(folder=run, opened=run_root) if package is None else cls(folder=package, opened=Root.at)


def _in_container(args: Namespace, argv: list[str]) -> int:
    """Test in a container, which gets no key, and sign its retest in this process."""
    if args.key is None:
        return run_in_image(["retest", *argv])
    package = known_package(args.run)
    place = _Place.of(package, package or find_run(args.run).folder)
    words = ["retest", args.run, *(["--json"] if args.json else []), *(["--trust"] if args.trust else [])]
    before = _unsigned(place)
    code = run_in_image([*words, *(["--grant", args.grant] if args.grant else [])])
    for each in sorted(_unsigned(place) - before):
        _note(sign_weights_retest(each, key=args.key, opened=place.opened), is_signed=True)
    return code


def _unsigned(place: _Place) -> set[Path]:
    found = (place.folder / FOLDER).glob("weights-*.json")
    return {each for each in found if not each.name.endswith((".dsse.json", ".evidence.json"))}


def _evidence(record: Record, found: Retested, package: str | None) -> Evidence:
    return Evidence(
        run=record.run, package=package, verdict=found.verdict, metrics=found.metrics, outputs=found.outputs
    )


def _retest(record: Record, evidence: Evidence) -> Retest:
    image, trained = claim_image(os.environ, run=None).image, record.circumstances.image
    other = [] if image.build_id == trained.build_id else [f"image: {trained.build_id} -> {image.build_id}"]
    return Retest(
        original=run_identity(record),
        retest=run_identity(record),
        tested="package" if evidence.package else "weights",
        package=evidence.package,
        when=datetime.now(UTC),
        who=user_name(),
        host=host_name(),
        device=read_host().cpu,
        how="here",
        image=image.known,
        not_equal=other,
        verdict=evidence.verdict,
        evidence=digest_of_bytes(evidence.to_json()),
    )


def _save(place: _Place, retest: Retest, evidence: Evidence, args: Namespace) -> Path | None:
    """Write the retest and return its path.

    If the folder is not writable, raise `MachineError` with a key; otherwise print a notice and return `None`.
    """
    try:
        path = save_weights_retest(place.folder, retest, evidence, key=args.key, opened=place.opened)
    except MachineError as fault:
        if args.key is not None:
            raise
        print_notice(f"the retest is not kept: {fault.message}")
        return None
    _note(path, is_signed=args.key is not None)
    return path


def _note(path: Path, *, is_signed: bool) -> None:
    state = "signed" if is_signed else "unsigned: its author is not verified (--key FILE signs)"
    print_notice(f"{state}: {shown_path(path)}")


def _page(record: Record, found: Retested) -> Iterator[str]:
    yield f"run         {record.run}, experiment {one_line(record.ingredients.experiment)}"
    for number, each in enumerate(found.metrics):
        head = "" if number else "test split"
        yield f"{head:<12}{one_line(each.name)} {value_text(each.recomputed)}: {compared_text(each)}"
    if found.outputs:
        yield f"package     {found.outputs.samples:,} samples, compared with the run's net: {outputs_text(found.outputs)}"
    yield f"verdict     {found.verdict}"
