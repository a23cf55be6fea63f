"""`reprise package RUN`: write a model package of a run, with a certificate that compares its outputs with those of the run's net."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.errors import PackageError
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import runs_folder, shown_path
from trainer.cli.containers import run_in_image
from trainer.cli.find_run import RUN_HELP, find_run
from trainer.cli.machine import can_train
from trainer.cli.output import print_json, print_notice
from trainer.cli.packages import KEY_HELP, mismatch, package_page
from trainer.cli.saved_weights import fetched_samples, require_variables
from trainer.cli.trust import TrustDecision, grants, require_trust, trust_options
from trainer.comparison.certificate import signing_key
from trainer.models.package import packages_in, read_package, write_package
from trainer.models.package_signature import package_signature, sign_package
from trainer.runs.image_claim import claim_image

if TYPE_CHECKING:
    from argparse import Namespace


def main(argv: list[str]) -> int:
    """Write the package of a run, and print its contents and its certificate."""
    args = _parser().parse_args(argv)
    if args.key is not None:
        signing_key(args.key)  # report an invalid key before the test
    if not can_train():
        return _in_container(args)
    run = find_run(args.run)
    require_variables(run.record, ["package", *(run.record.run if word == args.run else word for word in argv)])
    word = TrustDecision(trusted=args.trust, granted=grants(args.grant), command=f"reprise package {args.run}")
    require_trust(run.record, run.folder, word, is_isolated=False, in_its_image=False)
    from trainer.models.build import build_package

    datasets = [*fetched_samples(run.record, run.folder)]
    build_id = claim_image(os.environ, run=None).image.build_id
    built = build_package(run.record, run.folder, datasets, build_id=build_id, onnx=args.onnx, say=print_notice)
    if not built.certificate.holds and not args.force:
        raise PackageError(
            f"the package of run {run.record.run} does not reproduce the run's results: {mismatch(built.certificate)}",
            hint=f"to write it without a valid certificate: reprise package {args.run} --force",
        )
    folder = write_package(built.package, built.files, runs=runs_folder())
    if args.key is not None:
        sign_package(folder, built.package, key=args.key)
    if args.json:
        certificate = built.certificate.model_dump(mode="json")
        print_json({"package": built.package.digest, "path": str(folder), "certificate": certificate})
    else:
        signature = package_signature(folder, built.package, key=None)
        print("\n".join(package_page(built.package, built.certificate, folder, signature=signature)))
    return 0


def _in_container(args: Namespace) -> int:
    """Write the package in a container, which gets no key, and sign the package in this process."""
    words = [
        "package",
        args.run,
        "--onnx",
        args.onnx,
        *(["--force"] if args.force else []),
        *(["--json"] if args.json else []),
    ]
    words += [*(["--trust"] if args.trust else []), *(["--grant", args.grant] if args.grant else [])]
    before = set(packages_in(runs_folder()))
    code = run_in_image(words)
    if args.key is not None:
        for path in sorted({*packages_in(runs_folder())} - before):
            print_notice(f"signed: {shown_path(sign_package(path, read_package(path)[0], key=args.key))}")
    return code


def _parser() -> Arguments:
    parser = Arguments(
        "reprise package",
        "Write a model package of a run: the exported net, also as an ONNX graph; its weights; the rules for reading files and for "
        "converting outputs to predictions; golden samples; the record; and a certificate. The package's outputs on the whole test split "
        "are compared with the net's outputs, and its metrics with the run's metrics. The golden samples are also tested with the ONNX "
        "graph, with `reprise predict` and with a server. Exit codes: 0 the certificate holds, 91 it does not; "
        "docs/reference/exit-codes.md.",
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--force", action="store_true", help="write the package even if its certificate does not hold")
    parser.add_argument(
        "--onnx",
        choices=("auto", "required", "off"),
        default="auto",
        help="ONNX graph: `auto` adds it if the net can be exported, `required` fails if it cannot, `off` omits it (default: %(default)s)",
    )
    parser.add_argument("--key", type=Path, metavar="FILE", help=KEY_HELP)
    parser.add_argument("--json", action="store_true", help="print digest, path and certificate as JSON")
    trust_options(parser)
    return parser
