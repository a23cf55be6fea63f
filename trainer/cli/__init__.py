"""The edge: the command `reprise`, and the one place that turns a failure into a line and an exit code.

Knows which commands there are and where each may run. Refuses to know what any of them does: a command's module is imported only
when it is asked for, so that `reprise --help` costs no more than Python's own start.
"""

from __future__ import annotations

import io
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer import __version__
from trainer.cli.output import guarded_streams

if TYPE_CHECKING:
    from trainer.base.errors import RepriseError


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command: the module whose `main` it is, one line about it, and where it runs."""

    module: str
    summary: str
    where: str = "anywhere"
    runs_code: bool = False
    """Whether an experiment's own code prints in this process: then its streams stay as they are."""
    """`host`: needs the engine, which no container is given. `image`: needs torch; called on the host, it starts itself in the image."""


BAKED: Final = Path("/opt/reprise/image.json")
"""What an image says about itself; there exactly where a process runs in one of ours."""

COMMANDS: Final = {
    "train": Command(
        module="trainer.cli.train",
        summary="train an experiment and record the run",
        where="image",
    ),
    "new": Command(module="trainer.cli.new", summary="create an experiment from a copy of another"),
    "runs": Command(module="trainer.cli.runs", summary="list, show, pull, publish and push runs"),
    "report": Command(
        module="trainer.cli.report",
        summary="write an HTML page about one run, or several side by side",
    ),
    "reproduce": Command(
        module="trainer.cli.reproduce",
        summary="rerun a record and report whether the result matches",
    ),
    "compare": Command(
        module="trainer.cli.compare",
        summary="compare two runs: identical, within tolerance, within noise, different",
    ),
    "why": Command(
        module="trainer.cli.why",
        summary="find the ingredient that makes two runs diverge, by swapping one at a time",
    ),
    "noise": Command(
        module="trainer.cli.noise",
        summary="measure how much results vary when only the seed differs",
        where="image",
    ),
    "certify": Command(
        module="trainer.cli.certify",
        summary="test that a training is reproducible, and write a certificate",
        where="image",
    ),
    "verify": Command(
        module="trainer.cli.verify",
        summary="verify a certificate",
    ),
    "sweep": Command(
        module="trainer.cli.sweep",
        summary="train at every point of a grid, from one frozen source in one image",
    ),
    "check": Command(
        module="trainer.cli.check",
        summary="find faults of an experiment in a minute, before hours of training",
        where="image",
    ),
    "bench": Command(
        module="trainer.cli.bench",
        summary="time the steps of an experiment",
        where="image",
    ),
    "baseline": Command(
        module="trainer.cli.baseline",
        summary="train experiments at small scale and report regressions",
    ),
    "data": Command(
        module="trainer.cli.data",
        summary="publish, fetch, push, list, show and verify datasets",
    ),
    "image": Command(
        module="trainer.cli.image",
        summary="build, pin, restore, list, show and smoke-test images",
        where="host",
    ),
    "setup": Command(
        module="trainer.cli.setup",
        summary="write the managed block of .env",
        where="host",
    ),
    "doctor": Command(
        module="trainer.cli.doctor",
        summary="check this machine and print how to fix what is missing",
        where="host",
    ),
    "doctor store": Command(
        module="trainer.cli.doctor.store",
        summary="test what a store supports",
    ),
}
HIDDEN: Final = {
    "_baseline": Command(
        module="trainer.cli.baseline.baselining",
        summary="train small, for baseline",
        where="image",
        runs_code=True,
    ),
    "_bench": Command(
        module="trainer.cli.bench.benching",
        summary="time steps, for bench",
        where="image",
        runs_code=True,
    ),
    "_check": Command(
        module="trainer.cli.check.checking",
        summary="check an experiment, for check",
        where="image",
        runs_code=True,
    ),
    "_fetch": Command(
        module="trainer.cli.fetch",
        summary="bring datasets into the cache for a run without network",
    ),
    "_foresee": Command(
        module="trainer.cli.train.foreseen",
        summary="refuse words of train that are certainly wrong, before anything is built",
        where="host",
    ),
    "_inspect": Command(
        module="trainer.cli.data.inspect",
        summary="inspect the samples of a folder, for data publish",
        where="image",
    ),
    "_observe": Command(
        module="trainer.cli.check.observing",
        summary="observe a few steps, for check --bits",
        where="image",
        runs_code=True,
    ),
    "_points": Command(
        module="trainer.cli.sweep.points",
        summary="resolve the settings of every point, for sweep",
        where="image",
        runs_code=True,
    ),
    "_process": Command(
        module="trainer.cli.process",
        summary="the training process itself",
        where="image",
        runs_code=True,
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; every failure becomes one line and its hint on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is no failure
    hidden = HIDDEN.get(words[0]) if words else None
    with guarded_streams(escapes=not (hidden and hidden.runs_code)):
        return _reported(words)


def _reported(words: list[str]) -> int:
    try:
        return _dispatch(words)
    except KeyboardInterrupt:
        print("reprise: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as fault:  # noqa: BLE001 - the edge: nothing may reach the user as a traceback
        from trainer.cli.failure import report

        return report(
            fault,
            as_json="--json" in words,
            debug=bool(os.environ.get("REPRISE_DEBUG")),
        )


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in {"-h", "--help", "help"}:
        print(_overview())
        return 0
    if words[0] == "--version":
        print(f"reprise {__version__}")
        return 0
    if words[0].startswith("--"):
        words = ["train", *words]
    name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
    command = (COMMANDS | HIDDEN).get(name)
    if command is None:
        raise _unknown(words[0])
    if command.where == "host" and BAKED.exists():
        from trainer.base.errors import UsageError

        raise UsageError(
            f"`reprise {words[0]}` runs on the host: no engine is reachable in here",
            hint=f"type `scripts/reprise {' '.join(words)}` there",
        )
    if command.where == "anywhere":
        from trainer.cli.places import adopt_dotenv

        adopt_dotenv()
    code: int = import_module(command.module).main(words[len(name.split()) :])
    return code


def _unknown(word: str) -> RepriseError:
    from trainer.base.errors import UsageError
    from trainer.base.suggestions import did_you_mean, nearest
    from trainer.cli.experiments import meant
    from trainer.cli.places import CHECKOUT

    if word.startswith("-"):
        said = f"found {word!r} where a command or an option that begins with `--` was expected"
        return UsageError(
            said, hint="options of compose stand before the service: docker compose run -e NAME=VALUE --rm train ..."
        )
    experiment = None if nearest(word, COMMANDS) else meant(word, checkout=CHECKOUT)
    trains = f"an experiment is trained by `reprise train --exp {experiment}`"
    return UsageError(f"unknown command {word!r}", hint=trains if experiment else did_you_mean(word, COMMANDS))


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: reprise COMMAND [ARGUMENTS]",
            "",
            "Train experiments, and record everything that is needed to reproduce each run.",
            "",
            *lines,
            "",
            "`reprise COMMAND --help` describes a command. `reprise --exp NAME` is short for `reprise train --exp NAME`.",
        ]
    )
