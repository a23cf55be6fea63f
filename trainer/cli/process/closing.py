"""Close an attempt's record, however its block ends, and give each failure its status.

`trainer.cli.process.telling` prints the result of a successful run.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import contextmanager, suppress
from errno import EDQUOT, ENOSPC
from time import monotonic
from typing import TYPE_CHECKING, Final

from trainer.base.disk_errors import disk_fault
from trainer.base.errors import (
    DatasetError,
    DeviceError,
    ExperimentError,
    ExperimentFailedError,
    InterruptedRunError,
    RepriseError,
    SettingError,
    StoppedError,
    UsageError,
)
from trainer.cli.output import escaping
from trainer.cli.process.session import BAKED_INVENTORY, SOURCE
from trainer.cli.process.telling import Where, block, published
from trainer.environments.inventory import live
from trainer.runs.attempts import failed_before_first_step
from trainer.runs.identify import drifted
from trainer.runs.imported_files import read_imported
from trainer.runs.record import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.cli.process.session import Session

REFUSALS: Final = (UsageError, SettingError, DatasetError, ExperimentError, DeviceError)
"""Errors of the user's input: if one occurs before the first step, there was no run."""


@contextmanager
def closing(session: Session) -> Iterator[None]:
    """Close the record, however the block ends; an exception from the experiment's code is attributed to the experiment."""
    os.environ["REPRISE_ATTEMPT"] = str(session.opened.folder)
    session.stop.has_run = True
    try:
        session.stop.release()
        yield
    except BaseException as fault:
        session.stop.ignore()
        told = _told(fault, session)
        if isinstance(told, REFUSALS) and not session.has_stepped:
            session.opened.withdraw()
            print("no step was made, so no run is kept", file=escaping(sys.stderr))
            raise told from (None if told is fault else fault)
        known = isinstance(fault, RepriseError | KeyboardInterrupt) and not isinstance(fault, ExperimentFailedError)
        traced = told is not fault or not known
        if traced:
            _keep_traceback(session, fault)
        status = _status_of(told)
        _close(session, status, reason=_reason(told))
        left_here = Where(fault=f"{status} runs are published only by `runs publish`")
        where = published(session) if status is Status.PREEMPTED else left_here
        more = [("traceback", session.shown_log)] if traced else []
        if failed_before_first_step(session.opened.record):
            more.append(("steps", "none; the run is kept for its traceback, and `latest` skips it"))
        print("\n".join(block(session, where, metrics={}, more=more)), file=escaping(sys.stderr))
        if told is fault:
            raise
        raise told from fault
    session.stop.ignore()
    _close(session, Status.COMPLETED)


def _keep_traceback(session: Session, fault: BaseException) -> None:
    """Write the whole traceback to the log, with paths relative to the checkout; on a full disk it is omitted."""
    text = "".join(traceback.format_exception(fault)).rstrip("\n")
    with suppress(OSError):
        session.note(text.replace(f"{SOURCE}/", ""))


def _told(fault: BaseException, session: Session) -> BaseException:
    from trainer.training.failures import attributed

    if isinstance(fault, RepriseError | KeyboardInterrupt):
        return fault
    if isinstance(fault, OSError) and fault.errno in {ENOSPC, EDQUOT}:
        return disk_fault(fault, str(fault.filename or f"the run folder {session.frozen.shown}"))
    net = getattr(session.experiment, "net", None)
    worded = attributed(fault, file=session.experiment.file, root=SOURCE, net=getattr(net, "__name__", "the net"))
    if worded is None and isinstance(fault, OSError) and fault.errno is not None:
        return disk_fault(fault, str(fault.filename or session.frozen.shown), done="read or written")
    return worded or fault


def _status_of(fault: BaseException) -> Status:
    if isinstance(fault, InterruptedRunError | KeyboardInterrupt):
        return Status.INTERRUPTED
    return Status.PREEMPTED if isinstance(fault, StoppedError) else Status.FAILED


def _reason(fault: BaseException) -> str:
    """Return the reason for the record; lone surrogates, which UTF-8 cannot encode, are escaped."""
    text = fault.message if isinstance(fault, RepriseError) else f"{type(fault).__name__}: {fault}"
    return text.encode("utf-8", "backslashreplace").decode()


def _switched(session: Session) -> list[str] | None:
    """Return how the run left its level of determinism; `None` if it made no step, so that the switches were not checked."""
    return session.switched if session.switched or session.has_stepped else None


def _close(session: Session, status: Status, *, reason: str | None = None) -> None:
    began = monotonic()
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
        ledger=ledger.entries(),
        unread=ledger.unread(),
        tolerances=dict(session.experiment.net.tolerances) if trained else {},
        weights=trained.weights if trained else None,
    )
    around = session.opened.record.circumstances
    session.stages["close"] = monotonic() - began
    timing = around.timing.model_copy(
        update={"seconds": monotonic() - session.launch.monotonic, "stages": session.stages}
    )
    drift = drifted(live(), source=SOURCE, baked_inventory=BAKED_INVENTORY)
    ended = {"timing": timing, "drift_at_end": drift, "determinism_at_end": _switched(session)}
    ended["imported"] = read_imported(SOURCE)
    session.opened.close(outcome, circumstances=around.model_copy(update=ended))
