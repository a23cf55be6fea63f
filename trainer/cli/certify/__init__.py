"""`reprise certify rerun|resume EXP`: test that a training comes out the same again, or after a kill, and state what came of it.

Knows the order: run, run again, compare, state, sign. The exit code is the verdict's. Refuses to state anything without having run it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Final

from trainer.actions.certify import Kill, certify, keep
from trainer.actions.compare import Places, compare, side
from trainer.actions.run import ATTEMPTS, RECORD, load_record
from trainer.cli.arguments import Arguments
from trainer.cli.certify.page import page
from trainer.cli.places import cache_folder, runs_folder
from trainer.cli.train import understood
from trainer.cli.trainings import completed, start
from trainer.errors import RunError, UsageError
from trainer.host.signing import sign, signing_key
from trainer.origins import take_apart
from trainer.record import Status
from trainer.sameness.certificate import PAYLOAD_TYPE
from trainer.sameness.trace import FILE, read_trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.actions.compare import Comparison

_EVERY: Final = 3
"""Steps between checkpoints."""
_POLL: Final = 0.002


def main(argv: list[str]) -> int:
    """Test, state, print; exit with the verdict."""
    words, settings = _parser().parse_known_args(argv)
    if words.key is not None:
        signing_key(words.key)  # a wrong one is said before hours of training
    given = take_apart(settings).options
    if "exp" in given or "resume" in given:
        raise UsageError("certify names the experiment itself", hint=f"reprise certify {words.property} EXPERIMENT")
    train = ["--exp", words.experiment, *settings, *(["--max-steps", str(words.steps)] if words.steps else [])]
    understood(train, take_apart(train))  # what is certainly wrong is said in one line, before anything is started
    if words.property == "rerun":
        statement = certify(_rerun(train))
    else:
        comparison, kill = resumed(_with_checkpoints(train, given), after=words.kill_after)
        statement = certify(comparison, kill=kill)
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
    parser.add_argument(
        "--kill-after", type=int, default=8, metavar="N", help="resume: kill it after step N (default 8)"
    )
    parser.add_argument("--key", type=Path, metavar="FILE", help="sign it with this Ed25519 key (PEM)")
    parser.add_argument("--json", action="store_true", help="the statement, for scripts")
    return parser


def _with_checkpoints(words: Sequence[str], given: Mapping[str, str | None]) -> list[str]:
    """Save often, where the user said nothing else: what is resumed from is then in the middle of an epoch."""
    return [*words, *([] if "checkpoint_every" in given else ["--checkpoint-every", str(_EVERY)])]


def _rerun(words: Sequence[str]) -> Comparison:
    _say("training once")
    first = completed(words)
    _say("training again, from nothing")
    second = completed(words)
    return compared(first.run, second.run)


def resumed(words: Sequence[str], *, after: int) -> tuple[Comparison, Kill]:
    """Train with these words, kill that, resume it; train again without a stop; compare. Raises `RunError`."""
    _say(f"training, to be killed after step {after} once there is a checkpoint")
    run, kill = _killed(words, after=after)
    _say(f"killed after step {kill.after}; resuming run {run} from step {kill.resumed_from}")
    second = completed(["--resume", run])
    _say("training without a stop")
    first = completed(words)
    return compared(first.run, second.run), kill


def _killed(words: Sequence[str], *, after: int) -> tuple[str, Kill]:
    """Start a training and kill it; give its run, how far it was, and what it can go on from."""
    training = start(words)
    place = training.folder / ATTEMPTS / "1"
    saved = place / "checkpoints" / "latest.json"
    while training.process.poll() is None and not (saved.is_file() and steps_told(place / FILE) >= after):
        sleep(_POLL)
    over = training.process.poll() is not None
    training.kill()
    if over or load_record(place / RECORD).outcome.status is not Status.RUNNING:
        said = f"run {training.run} was over before it could be killed after step {after}"
        raise RunError(
            said, hint="the lines above say why; a longer run helps (--steps), or an earlier kill (--kill-after)"
        )
    step = int(json.loads(saved.read_bytes())["step"])
    return training.folder.name, Kill(after=read_trace(place / FILE).steps, resumed_from=step)


def steps_told(path: Path) -> int:
    """How many steps a trace that is being written tells of."""
    try:
        return path.read_bytes().count(b'\n{"step":')
    except OSError:
        return 0


def compared(a: str, b: str) -> Comparison:
    """Compare two runs of this machine."""
    runs = runs_folder()
    return compare(side(runs / a), side(runs / b), places=Places(runs=runs, cache=cache_folder()))


def _say(line: str) -> None:
    print(f"reprise: {line}", file=sys.stderr, flush=True)
