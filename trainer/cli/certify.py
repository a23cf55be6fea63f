"""`reprise certify rerun|resume EXP`: test that a training comes out the same again, or after a kill, and state what came of it.

Knows the order: run, run again, compare, state, sign. The exit code is the verdict's. Refuses to state anything without having run it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.actions.certify import certify, keep
from trainer.actions.compare import Places, compare, side
from trainer.certificate import PAYLOAD_TYPE
from trainer.cli.arguments import Arguments
from trainer.cli.certificate_page import page
from trainer.cli.places import cache_folder, runs_folder
from trainer.cli.trainings import completed
from trainer.errors import UsageError
from trainer.host.signing import sign, signing_key
from trainer.origins import take_apart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.actions.compare import Comparison


def main(argv: list[str]) -> int:
    """Test, state, print; exit with the verdict."""
    words, settings = _parser().parse_known_args(argv)
    if words.key is not None:
        signing_key(words.key)  # a wrong one is said before hours of training
    given = take_apart(settings).options
    if "exp" in given or "resume" in given:
        raise UsageError("certify names the experiment itself", hint=f"reprise certify {words.property} EXPERIMENT")
    train = ["--exp", words.experiment, *settings, *(["--max-steps", str(words.steps)] if words.steps else [])]
    statement = certify(_rerun(train))
    signed = sign(statement.to_json(), kind=PAYLOAD_TYPE, key=words.key) if words.key else None
    paths = keep(statement, signed, runs=runs_folder())
    print(statement.to_json().decode().strip() if words.json else "\n".join(page(statement)))
    for path in paths:
        _say(f"{'signed' if signed else 'unsigned: anybody could have written it (--key FILE signs)'}: {path}")
    return statement.predicate.code


def _parser() -> Arguments:
    parser = Arguments("reprise certify", "Test a property of a training, and state it. Further options are settings.")
    parser.add_argument(
        "property", choices=["rerun", "resume"], help="rerun: twice from nothing; resume: killed and resumed"
    )
    parser.add_argument("experiment", help="a name of trainer/experiments/, or a Python file")
    parser.add_argument("--steps", type=int, metavar="N", help="end after N steps (setting max_steps)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="sign it with this Ed25519 key (PEM)")
    parser.add_argument("--json", action="store_true", help="the statement, for scripts")
    return parser


def _rerun(words: Sequence[str]) -> Comparison:
    _say("training once")
    first = completed(words)
    _say("training again, from nothing")
    second = completed(words)
    return compared(first.run, second.run)


def compared(a: str, b: str) -> Comparison:
    """Compare two runs of this machine."""
    runs = runs_folder()
    return compare(side(runs / a), side(runs / b), places=Places(runs=runs, cache=cache_folder()))


def _say(line: str) -> None:
    print(f"reprise: {line}", file=sys.stderr, flush=True)
