"""`reprise certify rerun|resume|elastic EXP`: test whether a training has equal bits when run again, resumed, or on other devices.

The command runs the training several times, compares the runs, and writes a certificate, signed if a key is given. The exit code is the
verdict's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import RunError, UsageError
from trainer.base.run_files import read_run_json
from trainer.base.suggestions import counted
from trainer.cli.arguments import Arguments
from trainer.cli.configuration import cache_folder, runs_folder, shown_path
from trainer.cli.output import print_notice
from trainer.cli.train.command_line import parse_train_request, report_shared_options
from trainer.cli.trainings import Recipe, completed, freeze, freeze_image, start
from trainer.cli.verify import page
from trainer.comparison.certificate import sign, signing_key
from trainer.comparison.certify import Kill, certify, save_certificate
from trainer.comparison.compare import EvidenceSources, compare, load_compared_run
from trainer.comparison.trace import FILE, last_written_step, read_trace
from trainer.runs.checkpoint_pointer import Saved
from trainer.runs.record import RunStatus
from trainer.runs.run import ATTEMPTS, RECORD, load_record
from trainer.settings.origins import given_settings, parse_options
from trainer.settings.shards import FSDP

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from trainer.comparison.certificate import Statement
    from trainer.comparison.compare import Comparison
    from trainer.runs.record import Record

_CERTIFY: Final = "certify"
_EVERY: Final = 3
"""The number of steps between checkpoints."""
_AFTER: Final = 8
"""The step after which the training is killed, if the user gives none and the training has enough steps."""
_TRIES: Final = 4
_SHARDS: Final = 4
"""The shards of a batch, and the most devices, of an elastic training if the user gives none."""
_POLL: Final = 0.002


def main(argv: list[str]) -> int:
    """Test, write the certificate, print it, and return the verdict's exit code."""
    args, settings = _parser().parse_known_args(argv)
    report_shared_options("certify", argv, args.experiment)
    if args.to is not None:
        message = f"certify starts and kills trainings on this machine: --to {args.to} is not supported"
        hint = f"`reprise submit {args.experiment} --to {args.to}` twice, then `reprise compare RUN RUN`, compares two runs of the cluster"
        raise UsageError(message, hint=hint)
    if args.key is not None:
        signing_key(args.key)  # report an invalid key before hours of training
    options = parse_options(settings)
    if "exp" in options or "resume" in options:
        raise UsageError(
            "--exp and --resume are not accepted: EXPERIMENT is an argument",
            hint=f"reprise certify {args.property} EXPERIMENT",
        )
    _require_whole_parameters(args, options)
    train = ["--exp", args.experiment, *settings, *(["--max-steps", str(args.steps)] if args.steps else [])]
    request = parse_train_request(train)  # report invalid options before anything starts
    values = given_settings(request.origins)
    _require_observable(args, values)
    _require_whole_parameters(args, values)
    _require_elastic(args, values)
    recipe = freeze(request)
    freeze_image()
    if args.property != "rerun" and "checkpoint_every" not in values:  # to resume in the middle of an epoch
        recipe = replace(recipe, arguments=[*recipe.arguments, "--checkpoint-every", str(_EVERY)])
    if args.property == "elastic":
        statement = certify_elastic(recipe, after=args.kill_after, shards=request.settings.shards or _SHARDS)
    elif args.property == "rerun":
        statement = certify_rerun(recipe)
    else:
        statement = certify_resume(recipe, after=args.kill_after)
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
        "Test a property of a training and write a certificate. All other options are settings, or --settings FILE, as for "
        "`reprise train`. Exit codes: 0 the property holds; 10, 11 or 20 it does not hold; docs/reference/exit-codes.md.",
    )
    parser.add_argument(
        "property",
        choices=["rerun", "resume", "elastic"],
        help="rerun: train twice and compare; resume: kill, resume, compare with an uninterrupted run; elastic: compare one device with "
        "several, and with a run that begins on several and is resumed on one",
    )
    parser.add_argument("experiment", metavar="EXPERIMENT", help="a name in trainer/experiments/, or a Python file")
    parser.add_argument("--steps", type=int, metavar="N", help="train N steps (setting max_steps)")
    kill = "resume, elastic: kill after step N (default: 8, or half of the steps if fewer)"
    parser.add_argument("--kill-after", type=int, metavar="N", help=kill)
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="Ed25519 private key to sign with, PEM (default: unsigned)"
    )
    parser.add_argument(
        "--to", metavar="SITE", help="not supported: certify starts and kills trainings on this machine"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _require_observable(args: Namespace, values: Mapping[str, Any]) -> None:
    """Raise `UsageError` for options without observations: no trace, no step, or no step after the kill."""
    if str(values.get("trace", "")) == "off":
        raise UsageError("--trace is off, but a certificate is based on the trace", hint="remove --trace off")
    if args.steps is not None and args.steps < 1:
        raise UsageError(f"--steps is {args.steps}; expected 1 or more", hint="--steps 12")
    if args.property != "rerun" and (steps := str(values.get("max_steps", ""))).isdecimal():
        kill_point(args.kill_after, steps=int(steps))
    elif args.kill_after is not None and args.kill_after < 1:
        raise UsageError(f"--kill-after is {args.kill_after}; expected 1 or more", hint="--kill-after 8")


def _require_elastic(args: Namespace, values: Mapping[str, Any]) -> None:
    """Raise `UsageError` for settings with which the numbers of devices would mean nothing."""
    if args.property != "elastic":
        return
    if "devices" in values:
        message = "certify elastic trains on 1, 2, ... devices: --devices is not accepted"
        raise UsageError(message, hint="--shards N sets the maximum")
    if values.get("shards") in {1, "1"}:
        raise UsageError("--shards is 1: a batch of one shard trains on one device", hint="--shards 4")


def _require_whole_parameters(args: Namespace, values: Mapping[str, Any]) -> None:
    """Raise `UsageError` for an elastic training with distributed parameters."""
    if args.property == "elastic" and values.get("strategy") == FSDP:
        message = f"--strategy {FSDP} is not elastic: its results depend on the number of devices"
        hint = (
            f"omit --strategy; or test a resume: reprise certify resume {args.experiment} --strategy {FSDP} --devices 2"
        )
        raise UsageError(message, hint=hint)


def kill_point(requested: int | None, *, steps: int) -> int:
    """Return the step after which to kill a training of `steps` steps, so that at least one step follows the resume.

    Raise `UsageError` if there is no such step, naming the largest possible value.

    >>> kill_point(None, steps=360), kill_point(None, steps=6), kill_point(11, steps=12)
    (8, 3, 11)
    """
    if steps < 2:  # noqa: PLR2004 - one before the kill, one after the resume
        message = f"the training has {steps} step; a resume needs one before the kill and one after it"
        raise UsageError(message, hint="train for more steps: --steps 12")
    if requested is None:
        return min(_AFTER, steps // 2)
    if not 0 < requested < steps:
        message = f"--kill-after is {requested}, and the training has {steps} steps: no step would follow the resume"
        raise UsageError(message, hint=f"--kill-after 1 to {steps - 1}; or train for more steps")
    return requested


def certify_rerun(recipe: Recipe) -> Statement:
    """Train twice and compare. Raise `RunError`."""
    print_notice("training once")
    first = completed([], purpose=_CERTIFY, recipe=recipe)
    print_notice("training again from the start")
    return certify(_compare_runs(first, completed([], purpose=_CERTIFY, recipe=recipe)))


def certify_resume(recipe: Recipe, *, after: int | None) -> Statement:
    """Train; train again, kill the second training, resume it; compare. Raise `RunError`, `UsageError`.

    The uninterrupted training runs first: it gives the number of steps, so that the kill happens before the last step.
    """
    print_notice("training without a stop")
    first = completed([], purpose=_CERTIFY, recipe=recipe)
    steps = first.outcome.steps or 0
    run, kill = _kill_before_end(recipe, after=kill_point(after, steps=steps), steps=steps)
    print_notice(f"killed after step {kill.after}; resuming run {run} from step {kill.resumed_from} of {steps}")
    return certify(_compare_runs(first, completed(["--resume", run], purpose=_CERTIFY)), kill=kill)


def certify_elastic(recipe: Recipe, *, after: int | None, shards: int) -> Statement:
    """Train on one device; on two, and on as many as there are shards; begin there, kill, and resume on one; compare all with the first.

    Raise `RunError`, `UsageError`.
    """
    recipe = replace(recipe, arguments=[*recipe.arguments, "--shards", str(shards)])
    records: list[Record] = []
    counts = list(dict.fromkeys((1, 2, shards)))
    for count in counts:
        print_notice(f"training on {counted(count, 'device')}")
        records.append(completed(["--devices", str(count)], purpose=_CERTIFY, recipe=recipe))
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
    """Start a training and kill it before its last step: on a busy machine in several tries, each with an earlier kill."""
    for _ in range(_TRIES):
        print_notice(f"training, to be killed after step {after} of {steps} once there is a checkpoint")
        run, kill = _train_and_kill(recipe, after=after)
        if kill is not None and kill.resumed_from < steps:
            return run, kill
        print_notice(f"run {run} finished all {steps} steps before it could be killed")
        after = max(1, after // 2)
    message = f"the training ({steps} steps) finished before the kill in all {_TRIES} attempts"
    hint = "train for more steps (--steps, --max-epochs), or save more often (--checkpoint-every 1)"
    raise RunError(message, hint=hint)


def _train_and_kill(recipe: Recipe, *, after: int) -> tuple[str, Kill | None]:
    """Start a training and kill it; return its run id and the kill, or `None` if the training completed before."""
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
