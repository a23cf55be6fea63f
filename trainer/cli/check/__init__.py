"""`reprise check EXP`: finds an experiment's mistakes; with --bits, the first value that is not deterministic. Records no run."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import CheckFailedError, UsageError
from trainer.cli.arguments import Arguments
from trainer.cli.check.bits import look
from trainer.cli.configuration import CHECKOUT
from trainer.cli.experiments import experiment_names
from trainer.cli.hidden_command import run_hidden_command
from trainer.cli.in_image import run_in_image
from trainer.cli.machine import check_environment, check_lock
from trainer.cli.shared_options import report_shared_options
from trainer.cli.train import understood
from trainer.runs.image_claim import claim_image
from trainer.settings.origins import take_apart
from trainer.training.check_result import Finding, Status, lines, names_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.cli.train import Asked

ALL: Final = "all"
STEPS: Final = 100


def main(argv: list[str]) -> int:
    """Return 0 if all checks pass, 89 if a check failed; with --bits, 20 if a bit differs."""
    words, settings = _parser().parse_known_args(argv)
    report_shared_options("check", argv, words.experiment)
    steps = words.steps or (3 if words.bits else STEPS)
    if steps < 1:
        raise UsageError(f"--steps is {steps}; expected 1 or more", hint="--steps 3")
    if words.bits and (words.synthetic or words.experiment == ALL):
        raise UsageError("--bits looks at one experiment, with its real data", hint="reprise check --bits EXPERIMENT")
    names = experiment_names(CHECKOUT) if words.experiment == ALL else [words.experiment]
    lists = [["--exp", name, *settings] for name in names]
    everything = [(understood(each, take_apart(each)), each) for each in lists]
    known = claim_image(os.environ, run=None)
    if known.baked is None and find_spec("torch") is None:
        return run_in_image(["check", *argv])
    check_lock(known, CHECKOUT)
    for asked, _ in everything:
        check_environment(known, asked.settings)
    if words.bits:
        return look(everything[0][0], steps=steps, as_json=words.json)
    how = [str(steps), "synthetic" if words.synthetic else "data"]
    results = [_checked(asked, [*how, *each], aloud=not words.json) for asked, each in everything]
    if words.json:
        print(json.dumps(results if words.experiment == ALL else results[0]))
    return 0 if all(result["passed"] for result in results) else CheckFailedError.code


def _parser() -> Arguments:
    parser = Arguments(
        "reprise check",
        "Check an experiment before hours of training. Other options are settings, as for `reprise train`.",
    )
    parser.add_argument("experiment", help="a name in trainer/experiments/, a Python file, or `all` for every name")
    parser.add_argument("--synthetic", action="store_true", help="use the dataset's dummy twin instead of its data")
    parser.add_argument(
        "--bits", action="store_true", help="repeat a few steps and compare every output and gradient bit for bit"
    )
    parser.add_argument(
        "--steps", type=int, metavar="N", help=f"maximum steps on one batch (default {STEPS}; with --bits 3)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _checked(asked: Asked, hidden: Sequence[str], *, aloud: bool) -> dict[str, Any]:
    """Run the checks in a process and print each finding when it arrives; return the document of the result."""
    findings: list[Finding] = []
    data = ""
    for line in run_hidden_command(["_check", *hidden], asked):
        if "data" in line:
            data = line["data"]
            _say(f"{asked.place.name} on {data}", aloud=aloud)
            continue
        findings.append(Finding.model_validate(line))
        for text in lines(findings[-1]):
            _say(f"  {text}", aloud=aloud)
    faults, noted = names_of(findings, Status.FAILED), names_of(findings, Status.NOTED)
    notes = f"; look at {', '.join(noted)}" if noted else ""
    summary = (
        f"{len(findings)} checks, none failed{notes}"
        if not faults
        else f"{len(faults)} of {len(findings)} checks failed: {', '.join(faults)}"
    )
    _say(f"{asked.place.name}: {summary}", aloud=aloud)
    return {
        "experiment": asked.place.name,
        "data": data,
        "passed": not faults,
        "failed": faults,
        "noted": noted,
        "findings": [finding.model_dump(mode="json") for finding in findings],
    }


def _say(line: str, *, aloud: bool) -> None:
    if aloud:
        print(line, flush=True)
