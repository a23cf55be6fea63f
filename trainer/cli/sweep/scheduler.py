"""The scheduler of a sweep starts points as slots become free, watches them, and records how each point ended.

After a signal it starts no more points and forwards the signal to the running points. All state is in the sweep's document and in the
records of its runs.
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from trainer.base.errors import InterruptedRunError, ResumeError, StoppedError
from trainer.base.suggestions import counted
from trainer.cli.configuration import give_to_container_user
from trainer.runs.resume import archive_observed_image
from trainer.runs.run import abandon, new_run, recorded_attempts
from trainer.sweeps.folder import (
    LOGS,
    PointState,
    is_written,
    log_of,
    point_state,
    point_states,
    prepare,
    record_at,
    save,
    sweep_root,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.cli.sweep.launchers import PointLauncher
    from trainer.launch.contract import StartedCommand
    from trainer.sweeps.document import Point, Sweep

_COMPOSE: Final = (" Container ", " Network ", " Volume ", "time=")
"""Prefixes of lines that compose itself writes."""
_POLL: Final = 0.1
"""Seconds between two checks of the running points."""


@dataclass(slots=True, kw_only=True)
class RunningPoint:
    """A point whose training runs."""

    number: int
    run: str
    log: Path
    training: StartedCommand
    slot: int | None
    is_attached: bool = False
    """Whether an earlier process of the sweep started the run."""
    resumes: bool = False
    is_image_recorded: bool = False
    printed: int = 0
    """Bytes of its log that were printed."""
    started: float = field(default_factory=monotonic)

    def lines(self) -> Iterator[str]:
        """Yield the complete lines that were added to its log since the last call."""
        with suppress(OSError), sweep_root(self.log.parents[1]) as sweep, sweep.open(f"{LOGS}/{self.log.name}") as log:
            log.seek(self.printed)
            complete = log.read().rpartition(b"\n")
            self.printed += len(complete[0]) + len(complete[1])
            for line in complete[0].decode(errors="replace").splitlines():
                if line.strip() and not line.startswith(_COMPOSE):
                    yield line.rstrip()


@dataclass(slots=True, kw_only=True)
class Scheduler:
    """Trains the points of a sweep that are not finished."""

    sweep: Sweep
    folder: Path
    checkout: Path
    launcher: PointLauncher
    slots: list[str | None]
    """One entry for each point that may run at the same time: its GPUs."""
    running: list[RunningPoint] = field(default_factory=list)
    restarted: set[int] = field(default_factory=set)
    """Points whose run could not be resumed."""
    signals: list[int] = field(default_factory=list)
    forwarded: int = 0
    """Signals that were forwarded to the running points."""

    @property
    def runs(self) -> Path:
        """Return the folder of all runs."""
        return self.folder.parents[1]

    def run(self) -> Sweep:
        """Train every unfinished point. Raise `StoppedError` after a signal."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            todo = self._adopt_running()
            while self.running or (todo and not self.signals):
                while todo and not self.signals and (slot := self._free_slot()) is not None:
                    self._start(todo.pop(0), slot)
                self._forward_signals()
                sleep(_POLL)
                for ended in [entry for entry in self.running if self._is_over(entry)]:
                    self.running.remove(ended)
                    todo = [*self._close_point(ended), *todo]
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.signals:
            raise self._stop_error()
        return self.sweep

    def _adopt_running(self) -> list[int]:
        """Add the points that an earlier process started and that still run to `running`; return the numbers of the points to start."""
        states = point_states(self.sweep, runs=self.runs)
        for number, state in enumerate(states):
            run = self.sweep.points[number].run
            if state is PointState.RUNNING and run is not None:
                size = (self.folder / LOGS / f"{number + 1}.txt").stat().st_size if self._log(number).exists() else 0
                self.running.append(
                    RunningPoint(
                        number=number,
                        run=run,
                        log=self._log(number),
                        training=self.launcher.attach(self.runs / run),
                        slot=self._free_slot(),
                        is_attached=True,
                        is_image_recorded=True,
                        printed=size,
                    )
                )
                self._print_point(number, f"run {run} is still running: waiting for it")
        return [number for number, state in enumerate(states) if state not in {PointState.FINISHED, PointState.RUNNING}]

    def _log(self, number: int) -> Path:
        return self.folder / LOGS / f"{number + 1}.txt"

    def _free_slot(self) -> int | None:
        used = {entry.slot for entry in self.running}
        return next((slot for slot in range(len(self.slots)) if slot not in used), None)

    def _start(self, number: int, slot: int) -> None:
        point = self.sweep.points[number]
        resumes = (
            point.run is not None and number not in self.restarted and bool(recorded_attempts(self.runs / point.run))
        )
        arguments = self._resume_arguments(point) if resumes else self._start_arguments(number, point)
        run = self.sweep.points[number].run
        assert run is not None  # noqa: S101 - both functions set it
        give_to_container_user(self.runs / run, checkout=self.checkout)
        offset = self._log(number).stat().st_size if self._log(number).exists() else 0
        with log_of(self.folder, number) as log:
            training = self.launcher.start(arguments, self.runs / run, log=log, gpus=self.slots[slot])
        self.running.append(
            RunningPoint(
                number=number,
                run=run,
                log=self._log(number),
                training=training,
                slot=slot,
                resumes=resumes,
                printed=offset,
            )
        )

    def _start_arguments(self, number: int, point: Point) -> list[str]:
        """Create a new run for a point; return the arguments of its `train` command."""
        if point.run is not None and not recorded_attempts(self.runs / point.run):
            abandon(self.runs / point.run)
        recorded = [run for run in point.runs if recorded_attempts(self.runs / run)]
        run, folder = new_run(self.runs)
        prepare(self.sweep, folder, runs=self.runs)
        self._save_point(number, point.model_copy(update={"runs": [*recorded, run], "code": None}))
        self.restarted.discard(number)
        self._print_point(number, f"run {run}")
        files = [f"--settings={path}" for path in self.launcher.settings(folder)]
        return [f"--exp={self.sweep.asked.experiment}", *files, *self.sweep.asked.words, *point.words()]

    def _resume_arguments(self, point: Point) -> list[str]:
        assert point.run is not None  # noqa: S101 - checked by the caller
        archive_observed_image(self.runs / point.run)
        self._print_point(self.sweep.points.index(point), f"resuming run {point.run}")
        return [f"--resume={point.run}"]

    def _is_over(self, entry: RunningPoint) -> bool:
        for line in entry.lines():
            self._print_line(entry.number, f"  {line}")
        if entry.is_attached:
            return not is_written(self.folder, entry.number) and self._state(entry.number) is not PointState.RUNNING
        if not entry.is_image_recorded and (self.runs / entry.run).is_dir():
            entry.is_image_recorded = entry.training.record_image()
        return entry.training.poll() is not None

    def _close_point(self, entry: RunningPoint) -> list[int]:
        """Record how a point ended; return its number in a list if it must be restarted, else an empty list."""
        for line in entry.lines():
            self._print_line(entry.number, f"  {line}")
        code = entry.training.poll()
        if entry.resumes and code == ResumeError.code:
            self.restarted.add(entry.number)
            self._print_point(entry.number, f"run {entry.run} cannot be resumed: starting a new run")
            return [entry.number]
        abandon(self.runs / entry.run)
        self._save_point(entry.number, self.sweep.points[entry.number].model_copy(update={"code": code}))
        self._print_point(
            entry.number,
            f"{self._state(entry.number)} after {monotonic() - entry.started:.0f} s{self._result(entry)}",
        )
        return []

    def _result(self, entry: RunningPoint) -> str:
        record = record_at(self.sweep.points[entry.number], runs=self.runs)
        if record is None:
            return f": it has no record (exit code {'?' if entry.is_attached else entry.training.poll()})"
        results = [f"{name} {value:.6g}" for name, value in record.outcome.metrics.items() if isinstance(value, float)]
        code = entry.training.poll() or 0
        if code == 0 and not results:
            return ""
        if code:
            return f" with exit code {code}: {record.outcome.reason or 'its container or process was killed'}"
        return f": {', '.join(results[:4])}"

    def _state(self, number: int) -> PointState:
        return point_state(self.sweep, number, runs=self.runs)

    def _save_point(self, number: int, point: Point) -> None:
        self.sweep = self.sweep.with_point(number, point)
        save(self.sweep, self.folder)

    def _on_signal(self, number: int, _: object) -> None:
        self.signals.append(number)

    def _forward_signals(self) -> None:
        for number in self.signals[self.forwarded :]:
            self.forwarded += 1
            for entry in self.running:
                entry.training.send_signal(number)

    def _stop_error(self) -> StoppedError:
        kind = InterruptedRunError if self.signals[0] == signal.SIGINT else StoppedError
        cause = "Ctrl-C" if kind is InterruptedRunError else "SIGTERM"
        finished = point_states(self.sweep, runs=self.runs).count(PointState.FINISHED)
        message = f"stopped by {cause}: {finished} of {counted(len(self.sweep.points), 'point')} finished"
        return kind(
            message, hint=f"the same command continues the sweep, or `reprise sweep --continue {self.sweep.id}`"
        )

    def _print_point(self, number: int, line: str) -> None:
        self._print_line(number, f"{self.sweep.points[number]}: {line}")

    def _print_line(self, number: int, line: str) -> None:
        print(f"[{number + 1}/{len(self.sweep.points)}] {line}", file=sys.stderr, flush=True)
