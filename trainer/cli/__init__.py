"""The command `reprise`: dispatches to the commands and turns exceptions into messages and exit codes.

A command's module is imported only when the command is called, so that `reprise --help` stays fast. The garbage collector is off during
the import and ignores the imported objects afterwards: looking through them took a seventh of a short command's time.
"""

from __future__ import annotations

import gc
import io
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer import __version__

if TYPE_CHECKING:
    from trainer.base.errors import RepriseError


@dataclass(frozen=True, slots=True)
class Command:
    """A command of `reprise`."""

    summary: str
    location: str = "anywhere"
    """`host`: needs the Docker engine. `image`: needs torch; on a host without torch, the command starts a container of the image."""
    entry: str | None = None
    """`MODULE:FUNCTION` below `trainer.cli`; None for `main` in the module with the command's name."""
    runs_code: bool = False
    """Whether the experiment's code may print control characters, such as those of a progress bar: the output is not escaped."""


IMAGE_FILE: Final = Path("/opt/reprise/image.json")
"""The image's own metadata; exists only in containers of Reprise's images."""

COMMANDS: Final = {
    "train": Command("train an experiment and record the run", "image"),
    "new": Command("create an experiment as a copy of another experiment"),
    "runs": Command("list, show, pull, publish, push and export runs"),
    "report": Command("write an HTML report of a run, or of several runs side by side"),
    "predict": Command("print the predictions of a run's net, or of a package, for files", "image"),
    "package": Command("write a model package of a run, and certify that its outputs match the run's", "image"),
    "packages": Command("list, show, push and pull model packages"),
    "retest": Command("test the saved weights of a run or a package again, without training", "image"),
    "serve": Command("serve a model package over HTTP", "image"),
    "reproduce": Command("rerun a recorded run and compare the results"),
    "compare": Command("compare two runs: identical, within tolerance, within noise, different"),
    "why": Command("find which ingredient makes two runs differ"),
    "noise": Command("measure how much results vary with the seed", "image"),
    "certify": Command(
        "test that a rerun, a resume or another number of devices is bit-identical, and certify it", "image"
    ),
    "verify": Command("verify a certificate, a retest or a signed package"),
    "sweep": Command("train at every point of a grid, with one frozen source in one image"),
    "submit": Command("submit a run to a Slurm cluster, or write its manifest for Kubernetes", "host"),
    "logs": Command("print the output of a run's Slurm job, or the log of a run"),
    "cancel": Command("stop a Slurm job, after it has saved a checkpoint", "host"),
    "check": Command("find an experiment's mistakes in a minute, before hours of training", "image"),
    "bench": Command("measure the time of an experiment's training steps", "image"),
    "baseline": Command("compare short training runs of experiments with their recorded baselines"),
    "data": Command("publish, import, fetch, push, list, show, diff, verify and gc datasets"),
    "add": Command("add a package to environments, and lock and build them", "host", entry="dependencies:add"),
    "remove": Command("remove a package from environments", "host", entry="dependencies:remove"),
    "image": Command("build, pin, unpin, restore, list, show and smoke-test images", "host"),
    "setup": Command("set up this checkout: write the managed block of .env", "host"),
    "doctor": Command("check this machine and show how to fix each problem", "host"),
    "doctor store": Command("test that a store provides what Reprise needs", entry="doctor:probe_store"),
}
GROUPS: Final = {
    "Start": ("setup", "doctor", "doctor store", "new", "check"),
    "Train": ("train", "sweep", "bench"),
    "Clusters": ("submit", "logs", "cancel"),
    "Runs": ("runs", "report", "compare", "why", "reproduce"),
    "Models": ("predict", "package", "packages", "serve", "retest"),
    "Evidence": ("noise", "baseline", "certify", "verify"),
    "Environments": ("add", "remove", "image"),
    "Storage": ("data",),
}
"""The commands, grouped as the overview shows them."""
SUBCOMMANDS: Final = {
    "runs": ("ls", "show", "pull", "publish", "push", "export", "schema"),
    "data": ("publish", "import", "update", "fetch", "ls", "show", "diff", "verify", "push", "gc", "publish-samples"),
    "packages": ("ls", "show", "push", "pull"),
    "image": ("ls", "build", "pin", "unpin", "restore", "show", "smoke"),
    "baseline": ("check", "refresh", "measure"),
}
"""The subcommands of each command, for hints. A parser is imported only when its command is called."""
_NEAR: Final = 0.75
"""Minimum similarity of a word and a command, from 0 to 1, for a suggestion."""
_COLUMNS: Final = 80
HIDDEN: Final = {
    "_baseline": Command(
        "train the short runs of baseline", "image", entry="baseline:print_measurements", runs_code=True
    ),
    "_bench": Command("time the steps of bench", "image", entry="bench:print_benchmark", runs_code=True),
    "_check": Command("run the checks of check", "image", entry="check:run_checks", runs_code=True),
    "_fetch": Command("fetch datasets into the cache for a run without network access", entry="fetch:main"),
    "_foresee": Command("reject wrong arguments of train", "host", entry="train.command_line:check_arguments"),
    "_table": Command("write the Parquet file of a table for data publish", "image", entry="data.prepare_table:main"),
    "_inspect": Command("inspect the samples of a folder for data publish", "image", entry="data.inspect:main"),
    "_observe": Command(
        "observe the steps of check --bits", "image", entry="check.bits:print_observation", runs_code=True
    ),
    "_points": Command("check the points of sweep", "image", entry="sweep.create:print_faults", runs_code=True),
    "_process": Command("run the training process", "image", entry="process:main", runs_code=True),
    "_self_test": Command("test the integrity code with valid and damaged inputs", entry="self_test:main"),
}
"""Commands that other commands start."""


_HELP: Final = {"-h", "--help", "help"}
_VERSION: Final = {"-V", "--version"}


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code; an exception becomes a message with a hint on stderr."""
    if argv is None:  # the process is this command
        gc.disable()  # until `_dispatch` has imported the command
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # escape characters that the terminal's encoding lacks
    if len(arguments) > 1 and arguments[0] in _HELP:
        arguments = [*arguments[1:], "--help"]
    if not arguments or arguments[0] in _HELP | _VERSION:
        return _run_reporting_errors(arguments)  # these commands print constant text without secrets
    from trainer.cli.output import guarded_streams

    hidden = HIDDEN.get(arguments[0])
    with guarded_streams(escapes=not (hidden and hidden.runs_code)):
        return _run_reporting_errors(arguments)


def _run_reporting_errors(arguments: list[str]) -> int:
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        print("reprise: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as fault:  # noqa: BLE001 - no exception may reach the user as a traceback
        from trainer.cli.messages import report

        return report(fault, as_json="--json" in arguments, debug=bool(os.environ.get("REPRISE_DEBUG")))


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in _HELP:
        print(_overview())
        return 0
    if arguments[0] in _VERSION:
        print(f"reprise {__version__}")
        return 0
    if arguments[0].startswith("--"):
        arguments = ["train", *arguments]
    name = " ".join(arguments[:2]) if " ".join(arguments[:2]) in COMMANDS else arguments[0]
    command = (COMMANDS | HIDDEN).get(name)
    if command is None:
        raise _unknown(arguments[0])
    # the other hidden commands get the variables of the command that starts them
    if name in COMMANDS or command.location == "host":
        from trainer.settings.variables import require_known_variables

        require_known_variables(os.environ)
        if folder := os.environ.get("REPRISE_RUNS"):  # compose would resolve a relative path against the checkout
            os.environ["REPRISE_RUNS"] = os.path.abspath(folder)  # noqa: PTH100 - links must stay as typed
    if command.location == "host" and IMAGE_FILE.exists():
        from trainer.base.errors import UsageError

        raise UsageError(
            f"`reprise {arguments[0]}` runs on the host: a container has no access to the Docker engine",
            hint=f"type on the host: scripts/reprise {' '.join(arguments)}",
        )
    if command.location == "anywhere":
        from trainer.cli.configuration import adopt_dotenv

        adopt_dotenv()
    module, _, function = (command.entry or f"{name.replace(' ', '.')}:main").partition(":")
    run = getattr(import_module(f"trainer.cli.{module}"), function)
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    code: int = run(arguments[len(name.split()) :])
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
    commands = nearest(word, COMMANDS, cutoff=_NEAR)
    if subcommands := [f"`reprise {name} {word}`" for name, words in SUBCOMMANDS.items() if word in words]:
        hint = f"did you mean {' or '.join(subcommands)}?"
    elif not commands and (experiment := nearest_experiment(word, checkout=CHECKOUT)):
        hint = f"to train an experiment: reprise train --exp {experiment}"
    else:
        hint = did_you_mean(word, commands) if commands else "`reprise --help` lists the commands"
    return UsageError(f"unknown command {word!r}", hint=hint)


def _overview() -> str:
    width = max(map(len, COMMANDS)) + 4
    lines = [
        "usage: reprise COMMAND [ARGUMENTS]",
        "",
        *_wrapped("Train models in pinned environments and record each run so that it can be reproduced."),
    ]
    for title, names in GROUPS.items():
        lines += ["", f"{title}:"]
        for name in names:
            first, *others = _wrapped(COMMANDS[name].summary, indent=width)
            lines += [f"  {name}".ljust(width) + first.strip(), *others]
    notes = (
        "`reprise COMMAND --help` or `reprise help COMMAND` shows a command's options, `reprise --version` prints the version. "
        "Any other first argument that begins with `--` means `train`."
    )
    return "\n".join([*lines, "", *_wrapped(notes)])


def _wrapped(text: str, *, indent: int = 0) -> list[str]:
    """Return a text in lines of at most 79 columns; importing `textwrap` would take a twentieth of the command's time."""
    first, *words = text.split(" ")
    lines = [" " * indent + first]
    for word in words:
        if len(lines[-1]) + 1 + len(word) < _COLUMNS:
            lines[-1] += f" {word}"
        else:
            lines.append(" " * indent + word)
    return lines
