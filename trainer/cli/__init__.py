"""The command `reprise`: dispatches to the commands and turns exceptions into messages and exit codes.

A command's module is imported only when the command is called, so that `reprise --help` stays fast.
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
    """A command of `reprise`, implemented by the function `main` of a module."""

    module: str
    summary: str
    location: str = "anywhere"
    """`host`: needs the Docker engine. `image`: needs torch; on a host without torch it starts a container of the image."""
    runs_code: bool = False
    """Whether the experiment's code prints in this process; its output is not escaped."""


BAKED: Final = Path("/opt/reprise/image.json")
"""The image's own metadata; exists only in containers of Reprise's images."""

COMMANDS: Final = {
    "train": Command(
        module="trainer.cli.train",
        summary="train an experiment and record the run",
        location="image",
    ),
    "new": Command(module="trainer.cli.new", summary="create an experiment as a copy of another experiment"),
    "runs": Command(module="trainer.cli.runs", summary="list, show, pull, publish and push runs"),
    "report": Command(
        module="trainer.cli.report",
        summary="write an HTML report of a run, or of several runs side by side",
    ),
    "reproduce": Command(
        module="trainer.cli.reproduce",
        summary="rerun a recorded run and compare the results",
    ),
    "compare": Command(
        module="trainer.cli.compare",
        summary="compare two runs: identical, within tolerance, within noise, different",
    ),
    "why": Command(
        module="trainer.cli.why",
        summary="find the ingredients that make two runs differ, by swapping one at a time",
    ),
    "noise": Command(
        module="trainer.cli.noise",
        summary="measure how much results vary with the seed",
        location="image",
    ),
    "certify": Command(
        module="trainer.cli.certify",
        summary="test that a training is deterministic and sign a certificate",
        location="image",
    ),
    "verify": Command(
        module="trainer.cli.verify",
        summary="verify a certificate",
    ),
    "sweep": Command(
        module="trainer.cli.sweep",
        summary="train at every point of a grid, with one frozen source in one image",
    ),
    "check": Command(
        module="trainer.cli.check",
        summary="find an experiment's mistakes in a minute, before hours of training",
        location="image",
    ),
    "bench": Command(
        module="trainer.cli.bench",
        summary="measure the time of an experiment's training steps",
        location="image",
    ),
    "baseline": Command(
        module="trainer.cli.baseline",
        summary="compare short trainings of experiments with their recorded baselines",
    ),
    "data": Command(
        module="trainer.cli.data",
        summary="publish, fetch, push, list, show and verify datasets",
    ),
    "image": Command(
        module="trainer.cli.image",
        summary="build, pin, restore, list, show and smoke-test images",
        location="host",
    ),
    "setup": Command(
        module="trainer.cli.setup",
        summary="set up this checkout: write the managed block of .env",
        location="host",
    ),
    "doctor": Command(
        module="trainer.cli.doctor",
        summary="check this machine and show how to fix each problem",
        location="host",
    ),
    "doctor store": Command(
        module="trainer.cli.doctor.store",
        summary="test that a store provides what Reprise needs",
    ),
}
HIDDEN: Final = {
    "_baseline": Command(
        module="trainer.cli.baseline.measure",
        summary="run the short trainings of baseline",
        location="image",
        runs_code=True,
    ),
    "_bench": Command(
        module="trainer.cli.bench.benching",
        summary="time the steps of bench",
        location="image",
        runs_code=True,
    ),
    "_check": Command(
        module="trainer.cli.check.checking",
        summary="run the checks of check",
        location="image",
        runs_code=True,
    ),
    "_fetch": Command(
        module="trainer.cli.fetch",
        summary="fetch datasets into the cache for a run without network",
    ),
    "_foresee": Command(
        module="trainer.cli.train.foreseen",
        summary="reject wrong arguments of train before an image is built",
        location="host",
    ),
    "_inspect": Command(
        module="trainer.cli.data.inspect",
        summary="inspect the samples of a folder for data publish",
        location="image",
    ),
    "_observe": Command(
        module="trainer.cli.check.observing",
        summary="observe the steps of check --bits",
        location="image",
        runs_code=True,
    ),
    "_points": Command(
        module="trainer.cli.sweep.check_points",
        summary="resolve the settings of the points of sweep",
        location="image",
        runs_code=True,
    ),
    "_process": Command(
        module="trainer.cli.process",
        summary="run the training process",
        location="image",
        runs_code=True,
    ),
    "_self_test": Command(
        module="trainer.cli.self_test",
        summary="give the integrity code of this environment valid and damaged inputs",
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code; an exception becomes a message with a hint on stderr."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is no failure
    hidden = HIDDEN.get(words[0]) if words else None
    with guarded_streams(escapes=not (hidden and hidden.runs_code)):
        return _run_reporting_errors(words)


def _run_reporting_errors(words: list[str]) -> int:
    try:
        return _dispatch(words)
    except KeyboardInterrupt:
        print("reprise: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as fault:  # noqa: BLE001 - no exception may reach the user as a traceback
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
    if command.location == "host" and BAKED.exists():
        from trainer.base.errors import UsageError

        raise UsageError(
            f"`reprise {words[0]}` runs on the host: a container has no access to the Docker engine",
            hint=f"type on the host: scripts/reprise {' '.join(words)}",
        )
    if command.location == "anywhere":
        from trainer.cli.configuration import adopt_dotenv

        adopt_dotenv()
    code: int = import_module(command.module).main(words[len(name.split()) :])
    return code


def _unknown(word: str) -> RepriseError:
    from trainer.base.errors import UsageError
    from trainer.base.suggestions import did_you_mean, nearest
    from trainer.cli.configuration import CHECKOUT
    from trainer.cli.experiments import nearest_experiment

    if word.startswith("-"):
        return UsageError(
            f"found {word!r}; expected a command or an option that begins with `--`",
            hint="options of compose precede the service: docker compose run -e NAME=VALUE --rm train ...",
        )
    experiment = None if nearest(word, COMMANDS) else nearest_experiment(word, checkout=CHECKOUT)
    hint = f"to train an experiment: reprise train --exp {experiment}" if experiment else did_you_mean(word, COMMANDS)
    return UsageError(f"unknown command {word!r}", hint=hint)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: reprise COMMAND [ARGUMENTS]",
            "",
            "Train models in pinned environments and record each run so that it can be reproduced.",
            "",
            *lines,
            "",
            "`reprise COMMAND --help` shows a command's options. A first argument that begins with `--` means `train`.",
        ]
    )
