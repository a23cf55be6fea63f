"""`reprise certify rerun|resume|elastic EXP`: test whether a rerun, a resumed run, or a run on other numbers of devices is bit-identical.

The command trains several times, compares the runs, and writes a certificate, signed if a key is given. The exit code is the
verdict's.
"""

from __future__ import annotations

import shlex
from argparse import SUPPRESS
from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import RunError, UsageError
from trainer.base.run_files import read_run_json
from trainer.base.safe_folder import Root
from trainer.base.suggestions import counted
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import DRY_RUN_HELP, cache_folder, runs_folder, shown_path
from trainer.cli.output import print_notice
from trainer.cli.train.command_line import parse_train_request, report_shared_options
from trainer.cli.train.edit_arguments import from_checkout
from trainer.cli.trainings import Recipe, completed, explaining_stop, freeze, freeze_image, start
from trainer.cli.verify import page
from trainer.comparison.certificate import sign, signing_key
from trainer.comparison.certify import Kill, certify, save_certificate
from trainer.comparison.compare import EvidenceSources, compare, load_compared_run
from trainer.comparison.trace import FILE, last_written_step, read_trace
from trainer.runs.checkpoint_pointer import Saved
from trainer.runs.record import RunStatus
from trainer.runs.run import ATTEMPTS, RECORD, attempts, load_record
from trainer.runs.run_id import is_run_id, new_run_id
from trainer.settings.origins import given_settings, parse_options
from trainer.settings.shards import FSDP

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from trainer.cli.train.command_line import TrainRequest
    from trainer.comparison.certificate import Statement
    from trainer.comparison.compare import Comparison
    from trainer.runs.record import Record

_CERTIFY: Final = "certify"
_EVERY: Final = 3
"""The number of steps between checkpoints, unless the user sets `checkpoint_every`."""
_AFTER: Final = 8
"""The default step after which the run is killed; a run with fewer than twice as many steps is killed at half of its steps."""
_TRIES: Final = 4
_SHARDS: Final = 4
"""The default number of shards of a batch in an elastic training, and its largest number of devices."""
_POLL: Final = 0.002


def main(argv: list[str]) -> int:
    """Test, write the certificate, print it, and return the verdict's exit code."""
    args, settings = _parser().parse_known_args(argv)
    report_shared_options("certify", argv, args.experiment)
    if args.dry_run and args.to is None:
        raise UsageError("--dry-run prints a job, but no cluster is named", hint="--to SITE")
    if args.key is not None and args.to is not None:
        message = "--key with --to: a job must not have a private key"
        raise UsageError(message, hint="omit --key; or certify on this machine, without --to")
    if args.key is not None:
        signing_key(args.key)  # report an invalid key before hours of training
    options = parse_options(settings)
    if "exp" in options:
        raise UsageError(
            "--exp is not accepted: EXPERIMENT is an argument",
            hint=f"reprise certify {args.property} EXPERIMENT",
        )
    _require_whole_parameters(args, options)
    train = ["--exp", args.experiment, *settings, *(["--max-steps", str(args.steps)] if args.steps else [])]
    request = parse_train_request(train, command="certify")  # report invalid options before anything starts
    values = given_settings(request.origins)
    _require_observable(args, values)
    _require_whole_parameters(args, values)
    _require_elastic(args, values)
    if args.to is not None:
        return _submit(args, request)
    first = None if args.first_run is None else _first_folder(args.first_run)
    recipe = freeze(request, first=first)
    freeze_image()
    if args.property != "rerun" and "checkpoint_every" not in values:  # to resume in the middle of an epoch
        recipe = replace(recipe, arguments=[*recipe.arguments, "--checkpoint-every", str(_EVERY)])
    with explaining_stop("repeat the command: the test starts again from its first training"):
        if args.property == "elastic":
            shards = request.settings.shards or _SHARDS
            statement = certify_elastic(recipe, after=args.kill_after, shards=shards, first=first)
        elif args.property == "rerun":
            statement = certify_rerun(recipe, first=first)
        else:
            statement = certify_resume(recipe, after=args.kill_after, first=first)
    signed = sign(statement.to_json(), key=args.key) if args.key else None
    paths = save_certificate(statement, signed, runs=runs_folder())
    print(statement.to_json().decode().strip() if args.json else "\n".join(page(statement)))
    for path in paths:
        print_notice(
            f"{'signed' if signed else 'unsigned: its author is not verified (--key FILE signs)'}: {shown_path(path)}"
        )
    return statement.predicate.code


def _parser() -> Arguments:
    parser = Arguments(
        "reprise certify",
        "Test a property of a run and write a certificate. All other options are settings, or --settings FILE, as for "
        "`reprise train`. Exit codes: 0 the property holds; 10, 11 or 20 it does not hold; docs/reference/exit-codes.md.",
    )
    parser.add_argument(
        "property",
        choices=["rerun", "resume", "elastic"],
        help="rerun: train twice and compare; resume: kill, resume, compare with an uninterrupted run; elastic: compare a run on one "
        "device with runs on several devices, and with a run that begins on several devices and is resumed on one device",
    )
    parser.add_argument("experiment", metavar="EXPERIMENT", help="a name in trainer/experiments/, or a Python file")
    parser.add_argument("--steps", type=int, metavar="N", help="train N steps (setting max_steps)")
    kill = "with resume and elastic: kill the run after step N (default: 8, but at most half of the steps)"
    parser.add_argument("--kill-after", type=int, metavar="N", help=kill)
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="Ed25519 private key to sign with, PEM (default: unsigned)"
    )
    parser.add_argument(
        "--to",
        metavar="SITE",
        help="submit the test to this Slurm cluster, a name in sites/, as a job on one machine, and do not wait for it",
    )
    parser.add_argument("--dry-run", action="store_true", help=DRY_RUN_HELP)
    # a job of --to passes this option: the ID of a new run, to train first in its folder, from the source in it if there is one
    parser.add_argument("--first-run", metavar="RUN", help=SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _submit(args: Namespace, request: TrainRequest) -> int:
    """Submit a job that types this command. Raise `UsageError`, `SettingError`, `DeviceError`, `SchedulerError`."""
    from trainer.cli.site_jobs import slurm_site
    from trainer.cli.submit import plan_request, submit_job

    hint = f"certify on a machine of the cluster: reprise certify {args.property} {shlex.quote(args.experiment)}"
    site = slurm_site(args.to, command="certify", hint=hint)
    run, [_, name, *settings] = new_run_id(), from_checkout(request)
    kill = [f"--kill-after={args.kill_after}"] if args.kill_after is not None else []
    words = ["certify", args.property, name, *settings, *kill, f"--first-run={run}"]
    is_elastic = args.property == "elastic"
    devices = (request.settings.shards or _SHARDS) if is_elastic else request.settings.devices
    return submit_job(plan_request(request, site, run=run, words=words, devices=devices), site, args)


def _first_folder(run: str) -> Path:
    """Return the folder of the first run, and create it if it does not exist. Raise `UsageError` if the run has started."""
    if not is_run_id(run):
        raise UsageError(f"--first-run is {run!r}; expected the ID of a new run", hint=f"--first-run {new_run_id()}")
    folder = runs_folder() / run
    with disk_faults(folder), Root.at(folder.parent, make=True) as runs:
        runs.below(run, make=True).close()
    if attempts(folder):
        message = f"--first-run: run {run} has started; a test needs a new run"
        raise UsageError(message, hint="repeat the command that submitted it; or omit --first-run")
    return folder


def _require_observable(args: Namespace, values: Mapping[str, Any]) -> None:
    """Raise `UsageError` if the options leave nothing to compare: no trace, no step, or no step after the kill."""
    if str(values.get("trace", "")) == "off":
        raise UsageError("--trace is off, but a certificate is based on the trace", hint="remove --trace off")
    if args.steps is not None and args.steps < 1:
        raise UsageError(f"--steps is {args.steps}; expected 1 or more", hint="--steps 12")
    if args.property == "rerun" and args.kill_after is not None:
        raise UsageError(
            "--kill-after: certify rerun kills no run", hint=f"reprise certify resume {shlex.quote(args.experiment)}"
        )
    if args.property != "rerun" and (steps := str(values.get("max_steps", ""))).isdecimal():
        kill_point(args.kill_after, steps=int(steps))
    elif args.kill_after is not None and args.kill_after < 1:
        raise UsageError(f"--kill-after is {args.kill_after}; expected 1 or more", hint="--kill-after 8")


def _require_elastic(args: Namespace, values: Mapping[str, Any]) -> None:
    """Raise `UsageError` if an elastic training has the setting `devices`, or only one shard."""
    if args.property != "elastic":
        return
    if "devices" in values:
        message = "certify elastic trains on 1, 2, ... devices: --devices is not accepted"
        raise UsageError(
            message, hint=f"remove --devices; --shards N sets the largest number of devices (default: {_SHARDS})"
        )
    if values.get("shards") in {1, "1"}:
        message = "--shards is 1; certify elastic needs 2 or more, because several devices cannot share one shard"
        raise UsageError(message, hint=f"--shards {_SHARDS}")


def _require_whole_parameters(args: Namespace, values: Mapping[str, Any]) -> None:
    """Raise `UsageError` for an elastic training whose strategy shards the parameters."""
    if args.property == "elastic" and values.get("strategy") == FSDP:
        message = f"--strategy {FSDP} is not elastic: its results depend on the number of devices"
        hint = f"omit --strategy; or test a resume: reprise certify resume {shlex.quote(args.experiment)} --strategy {FSDP} --devices 2"
        raise UsageError(message, hint=hint)


def kill_point(requested: int | None, *, steps: int) -> int:
    """Return the step after which to kill a run of `steps` steps, so that at least one step follows the resume.

    Raise `UsageError` if there is no such step, or if `requested` is not such a step.

    >>> kill_point(None, steps=360), kill_point(None, steps=6), kill_point(11, steps=12)
    (8, 3, 11)
    """
    if steps < 2:  # noqa: PLR2004 - one before the kill, one after the resume
        message = f"the run has {counted(steps, 'step')}; a resume needs one step before the kill and one step after it"
        raise UsageError(message, hint="train for more steps: --steps 12")
    if requested is None:
        return min(_AFTER, steps // 2)
    if not 0 < requested < steps:
        message = f"--kill-after is {requested}, but the run has {steps} steps: no step would follow the resume"
        raise UsageError(message, hint=f"--kill-after 1 to {steps - 1}; or train for more steps")
    return requested


def certify_rerun(recipe: Recipe, *, first: Path | None = None) -> Statement:
    """Train twice, first in the folder `first`, and compare. Raise `RunError` if a run fails."""
    print_notice("training once")
    once = completed([], purpose=_CERTIFY, recipe=recipe, folder=first)
    print_notice("training again from the start")
    return certify(_compare_runs(once, completed([], purpose=_CERTIFY, recipe=recipe)))


def certify_resume(recipe: Recipe, *, after: int | None, first: Path | None = None) -> Statement:
    """Train without interruption; train again, kill the second run and resume it; compare the two runs.

    The uninterrupted training runs first, because it determines the number of steps, and the kill must happen before the last step. Raise
    `RunError` if a run fails or ends before the kill, `UsageError` if no step can follow the resume.
    """
    print_notice("training without interruption")
    whole = completed([], purpose=_CERTIFY, recipe=recipe, folder=first)
    steps = whole.outcome.steps or 0
    run, kill = _kill_before_end(recipe, after=kill_point(after, steps=steps), steps=steps)
    print_notice(f"killed after step {kill.after}; resuming run {run} from step {kill.resumed_from} of {steps}")
    return certify(_compare_runs(whole, completed(["--resume", run], purpose=_CERTIFY)), kill=kill)


def certify_elastic(recipe: Recipe, *, after: int | None, shards: int, first: Path | None = None) -> Statement:
    """Train on 1, 2 and `shards` devices; train on `shards` devices again, kill the run, resume it on 1 device; compare with the first.

    Raise `RunError` if a run fails or ends before the kill, `UsageError` if no step can follow the resume.
    """
    recipe = replace(recipe, arguments=[*recipe.arguments, "--shards", str(shards)])
    records: list[Record] = []
    counts = list(dict.fromkeys((1, 2, shards)))
    for count in counts:
        print_notice(f"training on {counted(count, 'device')}")
        folder = None if records else first
        records.append(completed(["--devices", str(count)], purpose=_CERTIFY, recipe=recipe, folder=folder))
    steps = records[0].outcome.steps or 0
    several = replace(recipe, arguments=[*recipe.arguments, "--devices", str(shards)])
    run, kill = _kill_before_end(several, after=kill_point(after, steps=steps), steps=steps)
    print_notice(
        f"killed after step {kill.after}; resuming run {run} on 1 device from step {kill.resumed_from} of {steps}"
    )
    records.append(completed(["--resume", run, "--devices", "1"], purpose=_CERTIFY))
    comparisons = [_compare_runs(records[0], each) for each in records[1:]]
    return certify(*comparisons, kill=kill, devices=[*counts, shards])


def _kill_before_end(recipe: Recipe, *, after: int, steps: int) -> tuple[str, Kill]:
    """Start a run and kill it before its last step; if it finishes first, try again with an earlier kill.

    Raise `RunError` if the run finishes first in each try.
    """
    for _ in range(_TRIES):
        print_notice(f"training, to be killed after step {after} of {steps}, once a checkpoint exists")
        run, kill = _train_and_kill(recipe, after=after)
        if kill is not None and kill.resumed_from < steps:
            return run, kill
        print_notice(f"run {run} finished all {steps} steps before it could be killed")
        after = max(1, after // 2)
    message = f"the run ({steps} steps) finished before the kill in all {_TRIES} attempts"
    hint = "train for more steps (--steps, --max-epochs), or save more often (--checkpoint-every 1)"
    raise RunError(message, hint=hint)


def _train_and_kill(recipe: Recipe, *, after: int) -> tuple[str, Kill | None]:
    """Start a run and kill it; return its ID and the kill, or `None` instead of the kill if the run completed first."""
    training = start([], purpose=_CERTIFY, recipe=recipe)
    attempt = training.folder / ATTEMPTS / "1"
    saved = attempt / "checkpoints" / "latest.json"
    while training.command.poll() is None and not (saved.is_file() and last_written_step(attempt / FILE) >= after):
        sleep(_POLL)
    training.kill()
    status = load_record(attempt / RECORD).outcome.status
    if status is RunStatus.COMPLETED:
        return training.folder.name, None
    if status is not RunStatus.RUNNING or not saved.is_file():
        raise RunError(f"run {training.run} ended before it was killed: {status}", hint="see the output above")
    step = read_run_json(saved, Saved).step
    return training.folder.name, Kill(after=read_trace(attempt / FILE).steps, resumed_from=step)


def _compare_runs(a: Record, b: Record) -> Comparison:
    runs = runs_folder()
    first, second = (load_compared_run(runs / record.run) for record in (a, b))
    return compare(first, second, sources=EvidenceSources(runs=runs, cache=cache_folder()))
