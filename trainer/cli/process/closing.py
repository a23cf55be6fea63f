"""Close an attempt's record, however its block ends, give each failure its status, publish the run, and report its end.

The report is text for a user or JSON for a script; it contains the run's result, its record and its location.
"""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final, TextIO

from trainer.base.digest import canonical
from trainer.base.disk_errors import disk_fault
from trainer.base.errors import (
    DatasetError,
    DeviceError,
    ExperimentError,
    ExperimentFailedError,
    InterruptedRunError,
    PreemptedError,
    RepriseError,
    SettingError,
    StoppedError,
    UsageError,
)
from trainer.base.run_files import attempt_root
from trainer.cli.configuration import store_at
from trainer.cli.experiment_loading import SOURCE
from trainer.cli.formatting import columns
from trainer.cli.messages import spelled
from trainer.cli.output import escaping
from trainer.cli.process.attempt import BAKED_INVENTORY, LOG
from trainer.environments.inventory import live
from trainer.environments.store_setup import LOCAL_STORE
from trainer.runs.attempts import failed_before_first_step
from trainer.runs.checkpoint_pointer import FOLDER as CHECKPOINTS
from trainer.runs.checkpoint_pointer import LATEST
from trainer.runs.identify import drifted, read_imported
from trainer.runs.metric_text import is_of_test, metric_text
from trainer.runs.publish import publish_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.run import SUBMISSION
from trainer.runs.submitted_source import SOURCE_VARIABLE
from trainer.sites.slurm import JOB
from trainer.sites.submission import read_submission

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic import JsonValue

    from trainer.cli.process.attempt import RunningAttempt
    from trainer.runs.record import Record

REFUSALS: Final = (UsageError, SettingError, DatasetError, ExperimentError, DeviceError)
"""Errors of the user's input: if such an error occurs before the first step, the attempt is removed."""


@contextmanager
def closing(session: RunningAttempt) -> Iterator[None]:
    """Close the record, however the block ends; an exception from the experiment's code is attributed to the experiment."""
    session.stop.has_run = True
    try:
        session.stop.release()
        yield
    except BaseException as fault:
        session.stop.ignore()
        error = _as_reported(fault, session)
        if isinstance(error, REFUSALS) and not session.has_stepped:
            session.opened.withdraw()
            print("the run ended before its first step; nothing was saved", file=escaping(sys.stderr))
            raise error from (None if error is fault else fault)
        is_expected = isinstance(fault, RepriseError | KeyboardInterrupt) and not isinstance(
            fault, ExperimentFailedError
        )
        has_traceback = error is not fault or not is_expected
        if has_traceback:
            text = "".join(traceback.format_exception(fault)).rstrip("\n")
            with suppress(OSError):  # on a full disk the traceback is omitted
                session.note(text.replace(f"{SOURCE}/", ""))
        status = _failure_status(error, can_resume=not session.launch.is_script)
        _close_record(session, status, reason=_reason(error))
        unpublished = PublishOutcome(fault=f"{status} runs are published only by `runs publish`")
        location = publish(session) if status is RunStatus.PREEMPTED else unpublished
        if status is RunStatus.PREEMPTED and _has_checkpoint(session.opened.folder):
            error = PreemptedError(str(_reason(error)))
        rows = [("traceback", session.shown_path(LOG))] if has_traceback else []
        if failed_before_first_step(session.opened.record):
            rows.append(("steps", "none; the run is kept for its traceback, and `latest` skips it"))
        print("\n".join(report_lines(session, location, metrics={}, more=rows)), file=escaping(sys.stderr))
        if error is fault:
            raise
        raise error from fault
    session.stop.ignore()
    _close_record(session, RunStatus.COMPLETED)


def _as_reported(fault: BaseException, session: RunningAttempt) -> BaseException:
    if isinstance(fault, RepriseError | KeyboardInterrupt):
        return fault
    from trainer.training.failures import attributed

    if isinstance(fault, OSError) and fault.errno in {ENOSPC, EDQUOT}:
        return disk_fault(fault, str(fault.filename or f"the run folder {session.frozen.shown}"))
    net = getattr(session.experiment, "net", None)
    attributed_error = attributed(
        fault, file=session.experiment.file, root=SOURCE, net=getattr(net, "__name__", "the net")
    )
    if attributed_error is None and isinstance(fault, OSError) and fault.errno is not None:
        return disk_fault(fault, str(fault.filename or session.frozen.shown), done="read or written")
    return attributed_error or fault


def _failure_status(fault: BaseException, *, can_resume: bool) -> RunStatus:
    if isinstance(fault, InterruptedRunError | KeyboardInterrupt):
        return RunStatus.INTERRUPTED
    if isinstance(fault, StoppedError):
        return RunStatus.PREEMPTED if can_resume else RunStatus.INTERRUPTED
    return RunStatus.FAILED


def _has_checkpoint(folder: Path) -> bool:
    with attempt_root(folder) as attempt:
        return attempt.has_file(f"{CHECKPOINTS}/{LATEST}")


def _reason(fault: BaseException) -> str:
    """Return the reason for the record; lone surrogates, which UTF-8 cannot encode, are escaped."""
    text = fault.message if isinstance(fault, RepriseError) else f"{type(fault).__name__}: {fault}"
    return text.encode("utf-8", "backslashreplace").decode()


def _close_record(session: RunningAttempt, status: RunStatus, *, reason: str | None = None) -> None:
    start = monotonic()
    trained = session.trained
    ledger = session.ledger
    outcome = Outcome(
        status=status,
        reason=reason,
        metrics=dict(trained.metrics) if trained else {},
        undefined=dict(trained.undefined) if trained else {},
        telemetry=dict(trained.telemetry) if trained else {},
        steps=session.steps,
        evaluated=trained.evaluated if trained else None,
        loaded_weights=session.loaded,
        ledger=ledger.entries(),
        unread=ledger.unread(),
        tolerances=dict(trained.tolerances) if trained else {},
        weights=trained.weights if trained else None,
        outputs=trained.outputs if trained else None,
    )
    circumstances = session.opened.record.circumstances
    session.stages["close"] = monotonic() - start
    timing = circumstances.timing.model_copy(
        update={"seconds": monotonic() - session.launch.monotonic, "stages": session.stages}
    )
    # torch's flags are checked from the first step on, and never for a script, which sets its own
    is_script = session.launch.is_script
    switched = session.switched if session.switched or (session.has_stepped and not is_script) else None
    drift = drifted(live(), source=SOURCE, baked_inventory=BAKED_INVENTORY)
    updates = {"timing": timing, "drift_at_end": drift, "determinism_at_end": switched, "limits": session.limits}
    updates["nodes"] = session.nodes
    updates["imported"] = None if is_script else read_imported(SOURCE)
    session.opened.close(outcome, circumstances=circumstances.model_copy(update=updates))


_STOPPED: Final = (RunStatus.PREEMPTED, RunStatus.INTERRUPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOutcome:
    """The location of a run: a store's address, or only this machine, with the reason."""

    address: str | None = None
    label: str | None = None
    """The address and the endpoint, for display."""
    fault: str | None = None


def finish(session: RunningAttempt, *, as_json: bool, out: TextIO | None = None) -> int:
    """Publish a successful run, and print its result to `out`."""
    record = session.opened.record
    if unread := record.outcome.unread:
        print(f"settings that nothing read: {', '.join(unread)}", file=escaping(sys.stderr))
    location = publish(session)
    if as_json:
        document: dict[str, object] = {
            "run": record.run,
            "status": record.outcome.status,
            "metrics": record.outcome.metrics,
        }
        document |= {"undefined": record.outcome.undefined} if record.outcome.undefined else {}
        document |= {
            "record": session.shown_path("record.json"),
            "published": location.address,
            "publish_error": location.fault,
        }
        print(canonical(document).decode(), file=out, flush=True)
        return 0
    metrics = record.outcome.metrics
    tested = {name: value for name, value in metrics.items() if is_of_test(name)} or metrics
    print("\n".join(report_lines(session, location, metrics=tested)), file=out, flush=True)
    return 0


def report_lines(
    session: RunningAttempt,
    location: PublishOutcome,
    *,
    metrics: Mapping[str, JsonValue],
    more: Sequence[tuple[str, str]] = (),
) -> list[str]:
    """Return the lines of a report: the run, its metrics, its record, its location, and the rows of `more`."""
    record = session.opened.record
    rows = [("run", f"{record.run} ({record.outcome.status})")]
    rows += [(name, _value(record, name, value)) for name, value in sorted(metrics.items())]
    for name, reason in sorted(record.outcome.undefined.items()):
        if metrics and name not in metrics:
            rows.append(("undefined", f"{name}: {reason}"))
    rows.append(("record", session.shown_path("record.json")))
    is_rerun = record.circumstances.retest_of is not None  # `reprise reproduce` reports where it is
    if not is_rerun:
        fault = location.fault
        rows.append(("published", f"local only: {with_host_endpoint(fault)}" if fault else str(location.label)))
    if location.fault and not is_rerun:
        address = os.environ.get("REPRISE_STORE")  # possibly set for this command only
        store = f" --store {shlex.quote(address)}" if address and address != LOCAL_STORE else ""
        rows.append(("", spelled(f"reprise runs publish {record.run}{store}")))
    if record.outcome.status in _STOPPED and not session.launch.is_script:
        rows.append(("resume", spelled(_resume_command(session))))
    return list(columns([*rows, *more]))


def _resume_command(session: RunningAttempt) -> str:
    """Return the command that resumes a stopped run: on a cluster, the command that gives the run another job."""
    run, note = session.opened.record.run, None
    with suppress(RepriseError):  # an invalid note does not end the report
        note = read_submission(Path(session.frozen.folder))
    if note is not None and note.sweep is not None:
        return f"reprise sweep --continue {note.sweep} --to {note.site}, unless Slurm starts the job again"
    if note is not None:
        return f"cd {shlex.quote(f'{session.frozen.shown}/{SUBMISSION}')} && sbatch {JOB}, unless Slurm starts the job again"
    if SOURCE_VARIABLE in os.environ:
        from trainer.cli.submit_manifest import MANIFEST

        return f"kubectl apply -f runs/{run}/{SUBMISSION}/{MANIFEST}, where it was submitted"
    return f"reprise train --resume {run}"


def _value(record: Record, name: str, value: JsonValue) -> str:
    reason = record.outcome.undefined.get(name)
    if reason is not None:
        return f"undefined ({reason})"
    return metric_text(value) if isinstance(value, float) else str(value)


def publish(session: RunningAttempt) -> PublishOutcome:
    """Publish the run if its settings request it. If publishing fails, the run stays on this machine and the reason is reported."""
    address = os.environ.get("REPRISE_STORE")
    if not session.publishes:
        return PublishOutcome(fault="the setting publish is off")
    if not address:
        return PublishOutcome(fault="no store is configured")
    session.stop.listen()
    try:
        store = store_at(address)
        publish_run(Path(session.frozen.folder), store, own=session.opened.record.attempt)
    except RepriseError as fault:
        return PublishOutcome(fault=fault.message)
    finally:
        session.stop.ignore()
    return PublishOutcome(address=address, label=store.label)


def with_host_endpoint(text: str) -> str:
    """Replace the store's endpoint in a text with the endpoint on the host: in containers the local store has another name."""
    endpoint, host_endpoint = (os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "REPRISE_STORE_ON_HOST"))
    return text.replace(endpoint, host_endpoint) if endpoint and host_endpoint else text
