"""The errors of stop requests, before and after a record is opened."""

from __future__ import annotations

import os
import signal

import pytest

from trainer.base.errors import InterruptedRunError, StoppedError
from trainer.training.resuming.stop_requests import StopRequest


@pytest.mark.parametrize(
    ("number", "kind", "by"),
    [(signal.SIGINT, InterruptedRunError, "Ctrl-C"), (signal.SIGTERM, StoppedError, "SIGTERM")],
)
@pytest.mark.parametrize("has_run", [True, False])
def test_a_run_that_never_started_is_not_reported_as_stopped(
    number: signal.Signals, kind: type[StoppedError], by: str, *, has_run: bool
) -> None:
    stop = StopRequest()
    stop.listen()
    stop.has_run = has_run
    with pytest.raises(kind) as error:
        os.kill(os.getpid(), number)
    message = f"the run was stopped by {by}" if has_run else f"stopped by {by} before training began"
    assert (error.value.message, error.value.code) == (message, kind.code)


def test_sigterm_that_arrives_several_times_at_once_is_one_request() -> None:
    stop = StopRequest()
    stop.listen()
    stop.is_delayed = True
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested == signal.SIGTERM
    with pytest.raises(StoppedError):
        stop.check()


def test_a_second_ctrl_c_stops_at_once() -> None:
    stop = StopRequest()
    stop.listen()
    stop.is_delayed = True
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(InterruptedRunError):
        os.kill(os.getpid(), signal.SIGINT)
