"""Loggers that may fail without ending the run: those of an experiment's own `make_loggers`, Weights & Biases, MLflow.

A logger that cannot start ends a new run before its first step. Afterwards, and when a run resumes, a failure is reported once; the logger
is tried again after a pause, so that a server that is down costs little time. `metrics.jsonl` has every value in any case.
"""

from __future__ import annotations

import functools
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.seed import isolate_rng

from trainer.base.errors import ExperimentError, RepriseError
from trainer.base.suggestions import type_with_article
from trainer.training.failures import first_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.runs.record import Record

    Report = Callable[[str, str], object]

HOOK: Final = "make_loggers"
"""The method of a task's net or of a LightningModule that returns further loggers."""
FOLDER: Final = "loggers"
"""The folder in an attempt's folder that the hook receives."""
_CALLS: Final = ("log_metrics", "log_hyperparams", "log_graph", "save", "after_save_checkpoint")
_PAUSE: Final = 60.0
"""Seconds for which a logger is not called after a failure."""


def guard(logger: Logger, report: Report, *, clock: Callable[[], float] = monotonic) -> Logger:
    """Catch the exceptions of a logger's methods, and return the logger. Each exception is passed to `report`, with the name of the logs.

    The object stays the same, so that an experiment finds its own logger in `self.loggers`. Random numbers that a logger draws do not
    change those of the run. An error of Reprise, such as a request to stop, is raised.
    """
    state = _LoggerState(type(logger).__name__, report, clock)
    for name in _CALLS:
        setattr(logger, name, state.guarded(getattr(logger, name)))
    logger.finalize = state.guarded(logger.finalize, always=True)  # type: ignore[method-assign]
    return logger


class _LoggerState:
    """The time at which a logger may be called again."""

    def __init__(self, name: str, report: Report, clock: Callable[[], float]) -> None:
        self.name, self.report, self.clock = name, report, clock
        self.resumes_at = float("-inf")

    def guarded(self, call: Callable[..., Any], *, always: bool = False) -> Callable[..., Any]:
        @functools.wraps(call)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            if not always and self.clock() < self.resumes_at:
                return None
            with isolate_rng(include_cuda=False):
                try:
                    return call(*args, **kwargs)
                except RepriseError:  # a request to stop
                    raise
                except Exception as fault:  # noqa: BLE001 - a logger may raise anything
                    self.resumes_at = self.clock() + _PAUSE
                    report_failure(self.report, self.name, fault)
                    return None

        return guarded


def report_failure(report: Report, name: str, fault: Exception) -> None:
    """Report that the logs of `name` have gaps."""
    message = f"{type(fault).__name__}{first_line(fault)}"
    report(f"logs of {name}", f"it raised {message}; training continues, and these logs have a gap")


def own_loggers(net: Any, folder: Path, record: Record | None, report: Report) -> list[Logger]:
    """Call the net's hook, and start, guard and return its loggers.

    Only the process that writes the record of a user's own run has such loggers: a rerun sends nothing to the author's server. For a new
    run, exceptions of the hook and of its loggers propagate. Raise `ExperimentError` if the hook returns anything but loggers.
    """
    hook = getattr(net, HOOK, None)
    if hook is None or record is None or record.circumstances.retest_of or record.circumstances.purpose:
        return []
    try:
        with isolate_rng(include_cuda=False):
            found = _checked(hook(folder / FOLDER), net)
            for logger in found:
                _ = getattr(logger, "experiment", None)  # otherwise Lightning starts it later, without a guard
    except Exception as fault:
        if record.attempt == 1 or isinstance(fault, RepriseError):
            raise
        report_failure(report, HOOK, fault)
        return []
    return [guard(logger, report) for logger in found]


def _checked(found: Any, net: Any) -> list[Logger]:
    loggers = [*found] if isinstance(found, list | tuple) else [found]
    if wrong := next((each for each in loggers if not isinstance(each, Logger)), None):
        message = (
            f"{type(net).__name__}.{HOOK} returned {type_with_article(wrong)}; expected a list of Lightning's loggers"
        )
        raise ExperimentError(message, hint='return [CSVLogger(folder, name="csv", version="")]')
    return loggers
