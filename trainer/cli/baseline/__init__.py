"""`reprise baseline`: check whether a small-scale training of an experiment still gives the recorded result.

Baselines are files in `tests/baselines/`. A baseline is written only after a confirmation and with a reason.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from trainer.base.digest import digest_of_file
from trainer.base.errors import DocumentError, ExperimentError, NotWritableError, RunError, UsageError
from trainer.base.git import changed_paths, since
from trainer.base.plain_text import LARGEST
from trainer.base.safe_folder import Root
from trainer.base.suggestions import counted, listed
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import CHECKOUT
from trainer.cli.containers import container_launcher, require_set_up, run_in_image
from trainer.cli.experiment_loading import attribute_errors, datasets_of, import_experiment, resolve_settings
from trainer.cli.experiments import FOLDER as EXPERIMENTS
from trainer.cli.experiments import experiment_names, find_experiment
from trainer.cli.machine import can_train, check_lock
from trainer.cli.output import result_stream
from trainer.cli.train.command_line import parse_train_request
from trainer.cli.trainings import frozen_checkout, run_hidden_command
from trainer.comparison.baseline import (
    FOLDER,
    Baseline,
    BaselineEntry,
    BaselineResult,
    EnvironmentKey,
    compare_with_entry,
    digest_of_code,
    levels,
)
from trainer.comparison.noise import FEWEST
from trainer.comparison.saved_document import read_files, save_files
from trainer.comparison.verdict import VerdictLevel
from trainer.data.declaration import declaration
from trainer.launch.contract import CommandRequest
from trainer.runs.handoff import read_launch
from trainer.runs.hardware import read_host
from trainer.runs.identify import read_imported
from trainer.runs.image_claim import claim_image

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

ALL: Final = "all"
_NAMED: Final = 4
"""The largest number of local changes that are listed."""
_CODE: Final = ("trainer", "datasets")
"""The folders that are searched for changes."""
NUDGES: Final = 3


def main(argv: list[str]) -> int:
    """Run a subcommand, and return the highest exit code of the experiments."""
    args = _parser().parse_args(argv)
    if args.verb == "refresh" and args.seeds < FEWEST:
        raise UsageError(f"--seeds is {args.seeds}; a tolerance needs {FEWEST} or more", hint="--seeds 5")
    if args.verb == "refresh" and not (args.yes or sys.stdin.isatty()):
        message = "a baseline is written only after a confirmation, but standard input is not a terminal"
        raise UsageError(message, hint="--yes")
    names = experiment_names(CHECKOUT) if args.experiment == ALL else [_require_in_package(args.experiment)]
    if args.verb == "check" and (missing := [name for name in names if _read(name) is None]):
        raise _no_baseline(missing[0])
    image = claim_image(os.environ, run=None)
    if args.verb != "refresh" and not can_train():
        return run_in_image(["baseline", *argv])
    check_lock(image, CHECKOUT)
    code: int = max(args.run(args, name) for name in names)
    return code


def _parser() -> Arguments:
    parser = Arguments(
        "reprise baseline",
        "Train experiments at small scale and report changed results. Exit codes of check: 0 as recorded, 20 changed; "
        "docs/reference/exit-codes.md.",
    )
    verbs = parser.commands(dest="verb")
    check = verbs.add_parser("check", help="train with one seed and compare the result with the baseline")
    check.set_defaults(run=_check)
    refresh = verbs.add_parser(
        "refresh", help="train with several seeds, show the changes, ask, and write the baseline"
    )
    refresh.add_argument(
        "--why", required=True, metavar="TEXT", help="reason for the change; stored in the baseline file"
    )
    refresh.add_argument("--yes", action="store_true", help="write the baseline without asking")
    refresh.set_defaults(run=_refresh)
    measure = verbs.add_parser("measure", help="train with several seeds and print the results as JSON")
    measure.set_defaults(run=_measure)
    for verb in (check, refresh, measure):
        verb.add_argument("experiment", metavar="EXPERIMENT", help=f"a name in trainer/experiments/, or {ALL}")
    for verb in (refresh, measure):
        verb.add_argument("--seeds", type=int, default=5, metavar="N", help="train with seeds 0 to N-1 (default: 5)")
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _check(args: Namespace, name: str) -> int:
    """Check an experiment; return 0 if the result matches the baseline, 20 if it does not."""
    baseline, measured = _read(name), _measured(name, seeds=1, nudges=0)
    entry = baseline.nearest(EnvironmentKey.model_validate(measured["key"])) if baseline else None
    if entry is None:
        raise _no_baseline(name)
    result = _compare(entry, measured)
    changes_listed = [] if result.same_code else code_changes(CHECKOUT, name)
    if args.json:
        document = {"experiment": name, "holds": result.holds, "summary": result.summary, "changes": result.changes}
        print(json.dumps(document | {"local_changes": changes_listed}))
    else:
        refresh = [] if result.holds else [f"if the change is intended: reprise baseline refresh {name} --why TEXT"]
        print("\n  ".join([f"{name}: {result.summary}", *changes_listed, *result.changes, *refresh]))
    return 0 if result.holds else VerdictLevel.DIFFERENT.code


def _no_baseline(name: str) -> DocumentError:
    return DocumentError(f"{name} has no baseline", hint=f"reprise baseline refresh {name} --why 'it is new'")


def _refresh(args: Namespace, name: str) -> int:
    baseline = _read(name) or Baseline(experiment=name, entries=[])
    measured = _measured(name, seeds=args.seeds, nudges=NUDGES)
    key = EnvironmentKey.model_validate(measured["key"])
    if not (metrics := levels(measured["results"], measured["nudged"])):
        raise RunError(f"{name} has no result metric that is finite with every seed", hint=f"reprise check {name}")
    print(f"{name}, {key.device}, Python {key.python}, lock {key.lock[7:19]}:")
    if entry := baseline.nearest(key):
        result = _compare(entry, measured)
        lines = [result.summary, *result.changes]
    else:
        lines = [
            f"new: {each} {level.value:.6g}, changes of up to {level.allowed:.3g} are accepted"
            for each, level in metrics.items()
        ]
    print("\n".join(f"  {line}" for line in lines))
    if not args.yes and input(f"write {FOLDER}/{name}.json? [y/N] ").strip().lower() not in {"y", "yes"}:
        print("nothing was written")
        return 0
    entry = BaselineEntry(
        key=key,
        image=measured["image"],
        code=measured["code"],
        imported=measured.get("imported"),
        seeds=args.seeds,
        metrics=metrics,
        why=args.why,
    )
    _write(name, baseline.with_entry(entry))
    print(f"written: {FOLDER}/{name}.json; commit it")
    return 0


def _compare(entry: BaselineEntry, measured: Mapping[str, Any]) -> BaselineResult:
    return compare_with_entry(
        entry,
        key=EnvironmentKey.model_validate(measured["key"]),
        code=measured["code"],
        imported=measured.get("imported"),
        metrics=measured["results"][0],
    )


def code_changes(checkout: Path, name: str) -> list[str]:
    """Return lines that summarize the changes of the code since the commit that wrote the baseline, committed or not; none without git."""
    changed, after = changed_paths(checkout, *_CODE), since(checkout, f"{FOLDER}/{name}.json", *_CODE)
    if changed is None:
        return []
    others = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    local = f"local changes: {', '.join(changed[:_NAMED])}{others}" if changed else "this checkout has no local changes"
    if after is None:
        return [local]
    origin = f"commit {after.commit} of {after.date} wrote the baseline"
    if not changed and not after.commits:
        return [f"{origin}, but for different code than it contains: no commit since then has changed the code", local]
    return [f"{origin}; {counted(after.commits, 'commit')} since then changed {' or '.join(_CODE)}", local]


def _measure(args: Namespace, name: str) -> int:
    print(json.dumps(_measured(name, seeds=args.seeds, nudges=NUDGES)))
    return 0


def _measured(name: str, *, seeds: int, nudges: int) -> dict[str, Any]:
    """Return the measurements of a process with torch: on this machine, or in a container of the image."""
    if find_spec("torch") is None:
        return _measured_in_image(name, seeds=seeds)
    train = ["--exp", name, "--threads", "1"]
    request = parse_train_request(train)
    with frozen_checkout(request) as (source, frozen):
        command = ["_baseline", str(seeds), str(nudges), *frozen]
        measured: dict[str, Any] = next(run_hidden_command(command, request, source=source))
    return measured


def _measured_in_image(name: str, *, seeds: int) -> dict[str, Any]:
    require_set_up("`reprise baseline`")
    request = CommandRequest(words=["baseline", "measure", name, "--seeds", str(seeds)])
    code, output = container_launcher("-T").start(request, stdout=subprocess.PIPE).output()
    if code:
        raise RunError(f"`baseline measure` ended with exit code {code}", hint="see the output above")
    measured: dict[str, Any] = json.loads(output)
    return measured


def _require_in_package(word: str) -> str:
    experiment = find_experiment(word, checkout=CHECKOUT, here=Path.cwd())
    if experiment.file.parent != EXPERIMENTS:
        message = f"experiment {word} is not in {EXPERIMENTS}/, and only experiments there have baselines"
        raise ExperimentError(message, hint=f"copy it there, or name one of: {listed(experiment_names(CHECKOUT))}")
    return experiment.name


def _read(name: str) -> Baseline | None:
    names = re.compile(re.escape(f"{name}.json"))
    return next(iter(read_files(CHECKOUT, FOLDER, Baseline.read, most=LARGEST, names=names, opened=Root.at)), None)


def _write(name: str, baseline: Baseline) -> None:
    try:
        save_files(CHECKOUT, FOLDER, {f"{name}.json": baseline.to_json()}, opened=Root.at)
    except NotWritableError as fault:
        hint = "repeat the command on the host: in a container, the checkout is read-only"
        raise NotWritableError(fault.message, hint=hint) from fault


def print_measurements(argv: list[str]) -> int:
    """Train with `argv[0]` seeds and `argv[1]` nudges; print the environment, the code's digest and all metrics as one line of JSON."""
    seeds, nudges, *arguments = argv
    with result_stream() as out, TemporaryDirectory(prefix="reprise-baseline-") as folder:
        from trainer.training.checks.short_training import perturbed_results, seed_results, small_subject

        root = Path.cwd()
        experiment = import_experiment(read_launch(os.environ))
        resolved = resolve_settings(experiment, arguments)
        declared = datasets_of(experiment, resolved.settings, root=root)
        subject = small_subject(experiment, resolved, declared, root=root, folder=Path(folder))
        with attribute_errors(experiment):
            measured: dict[str, Any] = {
                "results": list(seed_results(subject, seeds=int(seeds))),
                "nudged": list(perturbed_results(subject, times=int(nudges))),
            }
        measured |= {
            "key": environment_key(root).model_dump(),
            "image": claim_image(os.environ, run=None).image.manifest,
            "code": digest_of_code(root, experiment.file, *(declaration(each.name, root=root) for each in declared)),
            "imported": code.digest if (code := read_imported(root)) else None,
        }
        print(json.dumps(measured), file=out, flush=True)
    return 0


def environment_key(root: Path) -> EnvironmentKey:
    """Return this environment's key: the checkout's lock, the Python version, the CPU."""
    version = ".".join(platform.python_version_tuple()[:2])
    return EnvironmentKey(lock=digest_of_file(root / "uv.lock"), python=version, device=read_host().cpu)
