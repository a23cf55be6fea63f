"""The end of an attempt: its log and its record."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.runs.runs import start_run
from trainer.base.atomic_file import disk_faults
from trainer.base.errors import ExperimentFailedError, NotWritableError, PreemptedError, StoppedError
from trainer.cli.process.attempt import LOG, RunningAttempt
from trainer.cli.process.closing import closing
from trainer.cli.process.initial import Initial
from trainer.runs.handoff import FrozenSource
from trainer.runs.record import RunStatus
from trainer.runs.run import record_of
from trainer.settings.fields import LaunchSettings
from trainer.settings.ledger import Ledger
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.resuming.stop_requests import StopRequest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch


class Experiment:
    def __init__(self, file: Path) -> None:
        self.file = file


def make_session(tmp_path: Path) -> RunningAttempt:
    """Return the session of a running attempt of the experiment `idea.py`."""
    run = start_run(tmp_path / "runs")
    resolved = resolve(LaunchSettings, Origins(options=parse_options([]), environ={}))
    folder = run.folder.parents[1]
    return RunningAttempt(
        launch=cast("Any", type("Launched", (), {"monotonic": 0.0, "is_script": False})),
        frozen=FrozenSource(
            run=run.record.run,
            folder=str(folder),
            shown=f"runs/{folder.name}",
            digest=run.record.ingredients.source,
            source=run.record.circumstances.source,
        ),
        experiment=cast("Any", Experiment(tmp_path / "idea.py")),
        resolved=resolved,
        ledger=Ledger(resolved),
        datasets=cast("Any", (None,)),
        initial=Initial(resolved=resolved),
        stop=StopRequest(),
        opened=run,
        ingredients=run.record.ingredients,
    )


def test_an_exception_of_the_experiment_is_one_line_on_stderr_and_a_traceback_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = make_session(tmp_path)
    file = tmp_path / "idea.py"
    file.write_text("def forward(x):\n    raise ValueError('first\\nsecond')\n")
    space: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), space)  # noqa: S102 - the experiment's code
    with pytest.raises(ExperimentFailedError) as caught, closing(mine):
        space["forward"](1)
    assert caught.value.message == "idea.py:2: the experiment raised ValueError: first ..."
    folder = tmp_path / "runs" / mine.frozen.run
    assert record_of(folder).outcome.reason == caught.value.message
    log = (folder / "attempts" / "1" / LOG).read_text()
    assert "Traceback (most recent call last)" in log
    assert "ValueError: first\nsecond" in log
    stderr = capsys.readouterr().err
    assert f"traceback  {mine.shown_path('log.txt')}" in stderr
    assert "second" not in stderr


@pytest.mark.parametrize(("stepped", "began_at", "steps"), [(False, 0, 0), (False, 45, 45), (True, 0, None)])
def test_a_failure_before_the_first_step_reports_that_no_step_ran(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, stepped: bool, began_at: int, steps: int | None
) -> None:
    mine = make_session(tmp_path)
    mine.has_stepped, mine.began_at = stepped, began_at
    with pytest.raises(ExperimentFailedError, match="made up"), closing(mine):  # this file is in the checkout too
        raise ValueError("made up")
    assert record_of(tmp_path / "runs" / mine.frozen.run).outcome.steps == steps
    assert ("steps      none" in capsys.readouterr().err) is (steps == 0)


@pytest.mark.parametrize(("is_saved", "kind"), [(True, PreemptedError), (False, StoppedError)])
def test_a_stopped_run_ends_with_75_if_it_has_a_checkpoint(
    tmp_path: Path, *, is_saved: bool, kind: type[StoppedError]
) -> None:
    mine = make_session(tmp_path)
    if is_saved:
        (mine.opened.folder / "checkpoints").mkdir()
        (mine.opened.folder / "checkpoints/latest.json").write_text("{}")
    with pytest.raises(StoppedError) as caught, closing(mine):
        raise StoppedError("the run was stopped by SIGTERM")
    assert type(caught.value) is kind
    record = record_of(tmp_path / "runs" / mine.frozen.run)
    assert (record.outcome.status, record.outcome.reason) == (RunStatus.PREEMPTED, "the run was stopped by SIGTERM")


def test_characters_that_a_record_cannot_hold_are_escaped_in_its_reason(tmp_path: Path) -> None:
    mine = make_session(tmp_path)
    with pytest.raises(ExperimentFailedError), closing(mine):
        raise ExperimentFailedError("a name \udcff")
    assert record_of(tmp_path / "runs" / mine.frozen.run).outcome.reason == r"a name \udcff"


def test_a_read_only_disk_is_reported_with_its_path_and_a_hint(tmp_path: Path) -> None:
    mine = make_session(tmp_path)
    mine.has_stepped = True
    with pytest.raises(NotWritableError) as caught, closing(mine), disk_faults(tmp_path / "x"):
        raise OSError(errno.EROFS, "Read-only file system")
    assert caught.value.message == f"{tmp_path / 'x'} cannot be written: its file system is read-only"
    assert "owner" not in str(caught.value.hint)
