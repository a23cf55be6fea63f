"""Running a sweep with trivial processes instead of training runs."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Unpack

import pytest

from tests.records import circumstances, ingredients
from trainer.base.errors import InterruptedRunError
from trainer.cli.sweep.launchers import PointLauncher
from trainer.cli.sweep.scheduler import Scheduler
from trainer.launch.process import ProcessCommand
from trainer.runs.open_run import open_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.run_id import new_run_id
from trainer.source.capture import capture
from trainer.sweeps.document import Point, Sweep, SweepRequest
from trainer.sweeps.folder import PointState, create_sweep_folder, load, point_state

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.launch.contract import CommandRequest, Connection

_WAITS = "import sys, time; print('epoch 1/9', file=sys.stderr, flush=True); time.sleep(60)"


class FakeLauncher:
    """Starts processes that exit with a code; a point with code 0 has a finished run."""

    def __init__(self, codes: dict[str, int], *, waits: bool = False) -> None:
        self.codes, self.waits = codes, waits
        self.started: list[tuple[str, str | None]] = []

    def start(self, request: CommandRequest, **connection: Unpack[Connection]) -> ProcessCommand:
        assert request.run is not None
        point = request.words[-1]
        self.started.append((point, request.variables.get("CUDA_VISIBLE_DEVICES")))
        code = self.codes[point.partition("=")[2]]
        if not code and not self.waits:
            opened = open_run(request.run, ingredients=ingredients(), circumstances=circumstances())
            opened.close(Outcome(status=RunStatus.COMPLETED, metrics={"val_loss": 0.5}, steps=1))
        program = _WAITS if self.waits else f"import sys; sys.exit({code})"
        return ProcessCommand(subprocess.Popen([sys.executable, "-c", program], **connection))

    def attach(self, run: Path) -> ProcessCommand:
        del run
        return ProcessCommand(None)


def launcher_of(sweep: Sweep, pretending: FakeLauncher) -> PointLauncher:
    return PointLauncher(sweep=sweep, launcher=pretending, runs="")


def make_scheduler(tmp_path: Path, place: FakeLauncher, slots: list[str | None]) -> Scheduler:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "code.py").write_text("x = 1\n")
    (tmp_path / "runs").mkdir()
    bundle = capture(tmp_path / "project")
    points = [{"seed": seed} for seed in place.codes]
    sweep = Sweep(
        id=new_run_id(),
        created=datetime.now(UTC),
        asked=SweepRequest(experiment="digits", axes=["seed"], points=points),
        source=bundle.digest,
        captured=bundle.source,
        points=[Point(settings=each) for each in points],
    )
    folder = create_sweep_folder(sweep, bundle, runs=tmp_path / "runs")
    return Scheduler(
        sweep=sweep, folder=folder, checkout=tmp_path / "project", launcher=launcher_of(sweep, place), slots=slots
    )


def test_a_point_that_fails_stops_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    busy = make_scheduler(tmp_path, FakeLauncher({"1": 0, "2": 82, "3": 0}), [None])
    done = busy.run()
    assert load(busy.folder) == done
    assert [point_state(done, number, runs=busy.runs) for number in range(3)] == [
        PointState.FINISHED,
        PointState.FAILED,
        PointState.FINISHED,
    ]
    assert [point.code for point in done.points] == [0, 82, 0]
    assert not (busy.runs / str(done.points[1].run)).exists()
    stderr = capsys.readouterr().err
    assert "[2/3] seed=2: failed after" in stderr
    assert "it has no record (exit code 82)" in stderr


def test_a_finished_point_is_not_started_again(tmp_path: Path) -> None:
    place = FakeLauncher({"1": 0, "2": 82})
    busy = make_scheduler(tmp_path, place, [None])
    busy.sweep = busy.run()
    first = busy.sweep.points[1].run
    place.codes["2"] = 0
    done = busy.run()
    assert [words for words, _ in place.started] == ["--seed=1", "--seed=2", "--seed=2"]
    assert len(done.points[1].runs) == 1
    assert done.points[1].run != first


def test_points_share_the_gpus(tmp_path: Path) -> None:
    place = FakeLauncher({"1": 0, "2": 0, "3": 0})
    make_scheduler(tmp_path, place, ["0", "1"]).run()
    assert [gpus for _, gpus in place.started[:2]] == ["0", "1"]
    assert place.started[2][1] in {"0", "1"}


def test_ctrl_c_stops_running_points_and_starts_no_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = FakeLauncher({"1": 0, "2": 0}, waits=True)
    busy = make_scheduler(tmp_path, place, [None])
    busy.launcher = launcher_of(busy.sweep, _InterruptingLauncher(place))
    with pytest.raises(InterruptedRunError, match="0 of 2 points finished") as caught:
        busy.run()
    assert f"reprise sweep --continue {busy.sweep.id}" in str(caught.value.hint)
    assert len(place.started) == 1
    assert "epoch 1/9" in capsys.readouterr().err


class _InterruptingLauncher(FakeLauncher):
    """Sends SIGINT once the first point has written a line."""

    def __init__(self, place: FakeLauncher) -> None:
        super().__init__(place.codes, waits=True)
        self.other = place

    def start(self, request: CommandRequest, **connection: Unpack[Connection]) -> ProcessCommand:
        assert request.run is not None
        process = self.other.start(request, **connection)
        sweeps = request.run.parent / "sweeps"
        file = sweeps / next(sweeps.iterdir()).name / "logs" / "1.txt"
        while not file.read_bytes():
            assert process.poll() is None
        signal.raise_signal(signal.SIGINT)
        return process
