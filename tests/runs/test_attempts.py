"""Facts about all attempts of a run: changes, current settings, total duration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.records import circumstances, record
from trainer.runs.attempts import changes, current_settings, failed_before_first_step, total_duration
from trainer.runs.record import Record, RunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE = "setting learning_rate: 0.001 -> 0.5"


def attempt_record(
    number: int,
    *,
    changed: Sequence[str] = (),
    seconds: float | None = 2.0,
    status: RunStatus = RunStatus.PREEMPTED,
    **out: Any,
) -> Record:
    timing = circumstances().timing.model_copy(update={"seconds": seconds})
    around = circumstances(changed=list(changed), timing=timing)
    return record(around=around, attempt=number, status=status, **out)


def test_the_changes_of_the_last_attempt_apply() -> None:
    records = [
        attempt_record(1),
        attempt_record(2, changed=[RATE]),
        attempt_record(3, changed=[RATE, RATE]),
        attempt_record(4, changed=[RATE, RATE]),
    ]
    assert changes(records) == [(2, [RATE]), (3, [RATE])]
    assert [current_settings(records[:count])["learning_rate"] for count in (1, 2, 3, 4)] == [0.001, 0.5, 0.5, 0.001]


def test_other_changes_do_not_change_settings() -> None:
    lines = ["setting learning_rate: 0.001 -> {", "setting absent: 1 -> 2", "device accelerator: cpu -> cuda"]
    assert current_settings([attempt_record(1), attempt_record(2, changed=lines)]) == {
        "seed": 0,
        "learning_rate": 0.001,
    }


def test_the_total_time_states_whether_it_is_complete() -> None:
    both = total_duration([attempt_record(1), attempt_record(2)])
    assert (both.seconds, both.known, both.attempts) == (4.0, True, 2)
    killed = total_duration([attempt_record(1, seconds=None), attempt_record(2)])
    assert (killed.seconds, killed.known) == (2.0, False)
    running = total_duration([attempt_record(1), attempt_record(2, seconds=9.0, status=RunStatus.RUNNING)])
    assert (running.seconds, running.known) == (2.0, False)
    assert not total_duration([attempt_record(2)]).known, "the first attempt's record is not here"


def test_only_a_failure_without_steps_counts_as_idle() -> None:
    assert failed_before_first_step(attempt_record(1, status=RunStatus.FAILED, steps=0))
    assert not failed_before_first_step(attempt_record(1, status=RunStatus.FAILED))
    assert not failed_before_first_step(attempt_record(1, status=RunStatus.PREEMPTED, steps=0))
