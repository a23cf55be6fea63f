"""Working at a sweep: points are started as places get free, watched, and their ends written down.

Knows the order, and what a signal means: nothing more is started, and what runs is asked to stop. Refuses to know what starts a point
(`trainer.cli.sweep.places`) and to remember anything that the document and the runs' records do not say.
"""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from trainer.base.errors import InterruptedRunError, ResumeError, StoppedError
from trainer.base.suggestions import counted
from trainer.cli.ownership import hand_over
from trainer.cli.sweep.running import Running
from trainer.runs.resume import set_aside_what_was_seen
from trainer.runs.run import abandon, new_run, recorded
from trainer.sweeps.folder import LOGS, Standing, is_written, log_of, prepare, record_at, save, standing

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.cli.sweep.places import Place
    from trainer.sweeps.document import Point, Sweep

_POLL: Final = 0.1


@dataclass(slots=True, kw_only=True)
class Work:
    """A sweep, and what is being done about it."""

    sweep: Sweep
    folder: Path
    checkout: Path
    place: Place
    slots: list[str | None]
    """A place for each point that may run at once, with the GPUs that it has there."""
    running: list[Running] = field(default_factory=list)
    anew: set[int] = field(default_factory=set)
    """Points whose run could not be gone on with."""
    signals: list[int] = field(default_factory=list)
    told: int = 0

    @property
    def runs(self) -> Path:
        """The folder of all runs."""
        return self.folder.parents[1]

    def do(self) -> Sweep:
        """Bring every point to its end. Raises `StoppedError` where a signal came before."""
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            todo = self._adopted()
            while self.running or (todo and not self.signals):
                while todo and not self.signals and (slot := self._free()) is not None:
                    self._start(todo.pop(0), slot)
                self._hand_on()
                sleep(_POLL)
                for ended in [each for each in self.running if self._is_over(each)]:
                    self.running.remove(ended)
                    todo = [*self._close(ended), *todo]
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.signals:
            raise self._stopped()
        return self.sweep

    def _adopted(self) -> list[int]:
        """What is still to be done; a point that somebody started before and that still runs is waited for."""
        stands = [standing(self.sweep, number, runs=self.runs) for number in range(len(self.sweep.points))]
        for number, stand in enumerate(stands):
            run = self.sweep.points[number].run
            if stand is Standing.RUNNING and run is not None:
                size = (self.folder / LOGS / f"{number + 1}.txt").stat().st_size if self._log(number).exists() else 0
                slot = next(iter(set(range(len(self.slots))) - {each.slot for each in self.running}), None)
                self.running.append(
                    Running(
                        number=number, run=run, log=self._log(number), process=None, slot=slot, seen=True, read=size
                    )
                )
                self._say(number, f"run {run} goes on from before: waiting for it")
        return [number for number, stand in enumerate(stands) if stand not in {Standing.FINISHED, Standing.RUNNING}]

    def _log(self, number: int) -> Path:
        return self.folder / LOGS / f"{number + 1}.txt"

    def _free(self) -> int | None:
        taken = {each.slot for each in self.running}
        return next((slot for slot in range(len(self.slots)) if slot not in taken), None)

    def _start(self, number: int, slot: int) -> None:
        point = self.sweep.points[number]
        goes_on = point.run is not None and number not in self.anew and bool(recorded(self.runs / point.run))
        words = self._going_on(point) if goes_on else self._begun(number, point)
        run = self.sweep.points[number].run
        assert run is not None  # noqa: S101 - one of the two named it
        hand_over(self.runs / run, checkout=self.checkout)
        begins = self._log(number).stat().st_size if self._log(number).exists() else 0
        with log_of(self.folder, number) as log:
            process = self.place.start(words, self.runs / run, log=log, gpus=self.slots[slot])
        self.running.append(
            Running(
                number=number, run=run, log=self._log(number), process=process, slot=slot, resumes=goes_on, read=begins
            )
        )

    def _begun(self, number: int, point: Point) -> list[str]:
        """Name a new run for a point, before anything of it is started."""
        if point.run is not None and not recorded(self.runs / point.run):
            abandon(self.runs / point.run)
        kept = [run for run in point.runs if recorded(self.runs / run)]
        run, folder = new_run(self.runs)
        prepare(self.sweep, folder, runs=self.runs)
        self._keep(number, point.model_copy(update={"runs": [*kept, run], "code": None}))
        self.anew.discard(number)
        self._say(number, f"run {run}")
        file = [] if self.sweep.asked.file is None else [f"--settings={self.place.settings(folder)}"]
        return [f"--exp={self.sweep.asked.experiment}", *file, *self.sweep.asked.words, *point.words()]

    def _going_on(self, point: Point) -> list[str]:
        assert point.run is not None  # noqa: S101 - asked before
        set_aside_what_was_seen(self.runs / point.run)
        self._say(self.sweep.points.index(point), f"going on with run {point.run}")
        return [f"--resume={point.run}"]

    def _is_over(self, each: Running) -> bool:
        for line in each.lines():
            self._tell(each.number, f"  {line}")
        if each.process is None:
            return not is_written(self.folder, each.number) and self._stands(each.number) is not Standing.RUNNING
        if not each.seen and (self.runs / each.run).is_dir():
            each.seen = self.place.watch(self.runs / each.run)
        return each.process.poll() is not None

    def _close(self, each: Running) -> list[int]:
        """Write down how a point ended; give it back where it has to be begun anew."""
        for line in each.lines():
            self._tell(each.number, f"  {line}")
        code = None if each.process is None else each.process.returncode
        if each.resumes and code == ResumeError.code:
            self.anew.add(each.number)
            self._say(each.number, f"run {each.run} cannot be gone on with: beginning anew")
            return [each.number]
        abandon(self.runs / each.run)
        self._keep(each.number, self.sweep.points[each.number].model_copy(update={"code": code}))
        self._say(
            each.number, f"{self._stands(each.number)} after {monotonic() - each.began:.0f} s{self._result(each)}"
        )
        return []

    def _result(self, each: Running) -> str:
        record = record_at(self.sweep.points[each.number], runs=self.runs)
        if record is None:
            return f": no run came of it (exit code {each.process.returncode if each.process else '?'})"
        shown = [f"{name} {value:.6g}" for name, value in record.outcome.metrics.items() if isinstance(value, float)]
        code = each.process.returncode if each.process else 0
        if code or not shown:
            return f" with exit code {code}: {record.outcome.reason or 'its container or process was killed'}"
        return f": {', '.join(shown[:4])}"

    def _stands(self, number: int) -> Standing:
        return standing(self.sweep, number, runs=self.runs)

    def _keep(self, number: int, point: Point) -> None:
        self.sweep = self.sweep.with_point(number, point)
        save(self.sweep, self.folder)

    def _note(self, number: int, _: object) -> None:
        self.signals.append(number)

    def _hand_on(self) -> None:
        for number in self.signals[self.told :]:
            self.told += 1
            for each in self.running:
                self.place.hand_on(number, each.run, each.process)

    def _stopped(self) -> StoppedError:
        kind = InterruptedRunError if self.signals[0] == signal.SIGINT else StoppedError
        by = "Ctrl-C" if kind is InterruptedRunError else "SIGTERM"
        done = sum(self._stands(number) is Standing.FINISHED for number in range(len(self.sweep.points)))
        said = f"stopped by {by}: {done} of {counted(len(self.sweep.points), 'point')} finished"
        return kind(said, hint=f"the same command goes on, or `reprise sweep --continue {self.sweep.id}`")

    def _say(self, number: int, line: str) -> None:
        self._tell(number, f"{self.sweep.points[number]}: {line}")

    def _tell(self, number: int, line: str) -> None:
        print(f"[{number + 1}/{len(self.sweep.points)}] {line}", file=sys.stderr, flush=True)
