"""The attempts of one run, held together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.records import circumstances, record
from trainer.runs.attempts import changes, failed_before_first_step, settings_now, total_duration
from trainer.runs.record import Record, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE = "setting learning_rate: 0.001 -> 0.5"


def attempt(
    number: int,
    *,
    changed: Sequence[str] = (),
    seconds: float | None = 2.0,
    status: Status = Status.PREEMPTED,
    **out: Any,
) -> Record:
    """An attempt's record."""
    timing = circumstances().timing.model_copy(update={"seconds": seconds})
    around = circumstances(changed=list(changed), timing=timing)
    return record(around=around, attempt=number, status=status, **out)


def test_each_attempt_has_its_own_changes_and_the_last_ones_hold() -> None:
    """A record tells those of all attempts so far; what an attempt took back holds no more."""
    records = [
        attempt(1),
        attempt(2, changed=[RATE]),
        attempt(3, changed=[RATE, RATE]),
        attempt(4, changed=[RATE, RATE]),
    ]
    assert changes(records) == [(2, [RATE]), (3, [RATE])]
    assert [settings_now(records[:count])["learning_rate"] for count in (1, 2, 3, 4)] == [0.001, 0.5, 0.5, 0.001]


def test_what_is_no_change_of_a_setting_changes_none() -> None:
    """A stranger's record may say anything; another ingredient is no setting."""
    lines = ["setting learning_rate: 0.001 -> {", "setting absent: 1 -> 2", "device accelerator: cpu -> cuda"]
    assert settings_now([attempt(1), attempt(2, changed=lines)]) == {"seed": 0, "learning_rate": 0.001}


def test_the_time_of_all_attempts_is_one_sum_which_says_whether_it_is_all() -> None:
    """A killed attempt does not say how long it took, and one that runs is not over."""
    both = total_duration([attempt(1), attempt(2)])
    assert (both.seconds, both.known, both.attempts) == (4.0, True, 2)
    killed = total_duration([attempt(1, seconds=None), attempt(2)])
    assert (killed.seconds, killed.known) == (2.0, False)
    running = total_duration([attempt(1), attempt(2, seconds=9.0, status=Status.RUNNING)])
    assert (running.seconds, running.known) == (2.0, False)
    assert not total_duration([attempt(2)]).known, "the first attempt's record is not here"


def test_only_a_failure_of_which_no_step_is_known_made_none() -> None:
    """A run that was stopped before its first step can be gone on with; of one that failed later the steps are not known."""
    assert failed_before_first_step(attempt(1, status=Status.FAILED, steps=0))
    assert not failed_before_first_step(attempt(1, status=Status.FAILED))
    assert not failed_before_first_step(attempt(1, status=Status.PREEMPTED, steps=0))
