"""`reprise check --bits EXP`: where bits begin to differ when nothing does.

Knows words and output. A few steps are made twice in one process and once in another, every value is looked at, and the first that is not
the same is named: module, then operation. Nothing is recorded: it is a look, not a run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Any

from trainer.cli.arguments import Arguments
from trainer.cli.in_image import run_in_image
from trainer.cli.machine import check_environment, check_lock, device_for, torch_version, visible_gpus
from trainer.cli.places import CHECKOUT
from trainer.cli.train import understood
from trainer.determinism import threads_at, variables
from trainer.errors import DocumentError, RunError, UsageError
from trainer.host.image_claim import claim
from trainer.launch import Launch
from trainer.observed import Kind, Sight, blamed, parted, worded
from trainer.origins import take_apart
from trainer.verdict import Rung

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.cli.train import Asked


def main(argv: list[str]) -> int:
    """Look, print; exit 0 where every bit is the same, 20 where one is not."""
    words, settings = _parser().parse_known_args(argv)
    if not words.bits:
        raise UsageError("check needs to be told what to look for", hint="reprise check --bits EXPERIMENT")
    if words.steps < 1:
        raise UsageError(f"--steps is {words.steps}; expected 1 or more", hint="--steps 3")
    train = ["--exp", words.experiment, *settings]
    asked = understood(train, take_apart(train))
    known = claim(os.environ, run=None)
    if known.baked is None and find_spec("torch") is None:
        return run_in_image(["check", *argv])
    check_lock(known, CHECKOUT)
    check_environment(known, asked.settings)
    found = _looked(asked, train, steps=words.steps)
    print(json.dumps(found) if words.json else found["said"])
    return 0 if found["equal"] else Rung.DIFFERENT.code


def _parser() -> Arguments:
    parser = Arguments(
        "reprise check", "Look where bits begin to differ when nothing does. Further options are settings."
    )
    parser.add_argument("experiment", help="a name of trainer/experiments/, or a Python file")
    parser.add_argument("--bits", action="store_true", help="look at every bit of every module's output and gradient")
    parser.add_argument("--steps", type=int, default=3, metavar="N", help="steps to look at (default 3)")
    parser.add_argument("--json", action="store_true", help="for scripts")
    return parser


def _looked(asked: Asked, words: Sequence[str], *, steps: int) -> dict[str, Any]:
    """What the first value that differs is, twice in one process, then between two."""
    here = _observed(asked, [*words], steps=steps, times=2)
    between, number = "twice in one process", len(here["sights"])
    first = _sight(here["parted"]) if here["parted"] else None
    if first is None:
        there = _observed(asked, [*words], steps=steps, times=1)
        first, between = parted(_sights(here), _sights(there)), "in two processes"
    if first is None:
        said = f"clean: {number} values of {steps} steps are equal, twice in one process and in another"
        return {"equal": True, "said": said, "steps": steps, "values": number}
    lines = [f"{asked.place.name}, {between}: {worded(first)}", *([f"  {here['op']}"] if here["op"] else [])]
    return {
        "equal": False,
        "said": "\n".join(lines),
        "between": between,
        "step": first.step,
        "kind": first.kind,
        "name": first.name,
        "module": blamed(first),
        "operation": here["op"],
    }


def _sights(found: dict[str, Any]) -> list[Sight]:
    return [_sight(values) for values in found["sights"]]


def _sight(values: list[Any]) -> Sight:
    step, kind, *rest = values
    return Sight(step, Kind(kind), *rest)


def _observed(asked: Asked, words: list[str], *, steps: int, times: int) -> dict[str, Any]:
    """What the observing process tells."""
    level = asked.settings.determinism
    device = device_for(asked.settings.accelerator, gpus=visible_gpus(), torch=torch_version(), level=level)
    launch = Launch(
        experiment=asked.place.name,
        file=str(asked.place.outside or asked.place.file),
        device=device,
        command=["reprise", "check"],
        started=datetime.now(UTC),
        monotonic=monotonic(),
    )
    own = {"PYTHONPATH": str(CHECKOUT), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    told = variables(level, threads=threads_at(level, asked.settings.threads)) | own | launch.variables()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "trainer", "_observe", str(steps), str(times), *words],
        cwd=CHECKOUT,
        env={**os.environ, **told},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise RunError(f"the steps could not be made (exit code {done.returncode})", hint="the lines above say why")
    try:
        told_back: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError) as fault:
        raise DocumentError("the observing process told nothing", hint="does the experiment print or exit?") from fault
    return told_back
