"""A simulation of many ranks of many runs with one store: they claim attempts, follow, are killed, preempted or replaced, and publish.

A rank is a thread of one of several processes, with its own folder of runs, as on a separate machine. In each round, some ranks of each run
contend for the next attempt at the same time, and the others follow. The winner takes steps and publishes snapshots. Then it is killed, is
preempted, or becomes stale: it stays alive, and tries to publish during and after the contention of the next round.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import BrokenBarrierError, Thread
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from tests.runs.machines import Machine
from trainer.base.errors import ClaimedError
from trainer.runs.claims import stored_claim
from trainer.runs.open_run import claim_of
from trainer.runs.pull import pull_run
from trainer.runs.record import RunStatus
from trainer.runs.seal import sealed_key
from trainer.runs.snapshot import newest_snapshot
from trainer.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.stores.contract import Store

FATES: Final = ("killed", "preempted", "stale")
PATIENCE_S: Final = 600.0
LONGEST_ID: Final = 64


class CountingStore:
    """A store that counts the calls of each method."""

    def __init__(self, store: Store) -> None:
        """Count calls of `store`."""
        self.store, self.calls = store, Counter[str]()
        self.address, self.label = store.address, store.label

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Count a read."""
        self.calls["read"] += 1
        return self.store.read(key, start=start, length=length)

    def write(self, key: str, body: bytes | BinaryIO, *, sha256: str) -> None:
        """Count a write."""
        self.calls["write"] += 1
        self.store.write(key, body, sha256=sha256)

    def holds(self, key: str, *, size: int, sha256: str) -> bool:
        """Count a check."""
        self.calls["holds"] += 1
        return self.store.holds(key, size=size, sha256=sha256)

    def create(self, key: str, body: bytes) -> bool:
        """Count a creation."""
        self.calls["create"] += 1
        return self.store.create(key, body)

    def size(self, key: str) -> int | None:
        """Count a query of a size."""
        self.calls["size"] += 1
        return self.store.size(key)

    def keys(self, prefix: str) -> Iterator[str]:
        """Count a listing."""
        self.calls["keys"] += 1
        return self.store.keys(prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The size of a simulation."""

    runs: int
    ranks: int
    """The number of ranks of each run."""
    rounds: int
    contenders: int
    """The number of ranks of each run that claim its next attempt in a round; the next round has others, if there are enough ranks."""
    processes: int = 1

    def contends(self, rank: int, turn: int) -> bool:
        """Return whether a rank claims an attempt in a round."""
        return (rank - turn * self.contenders) % self.ranks < self.contenders


@dataclass(slots=True, kw_only=True)
class Report:
    """The actions and observations of a rank."""

    run: int
    rank: int
    owned: dict[int, str] = field(default_factory=dict)
    """The claims that this rank owned, by attempt."""
    began: dict[int, int] = field(default_factory=dict)
    """The step from which the rank resumed, by attempt."""
    published: dict[int, int] = field(default_factory=dict)
    """The last step whose snapshot the store acknowledged, by attempt."""
    sealed: list[int] = field(default_factory=list)
    """The attempts in the rank's folder that the rank sealed or found sealed."""
    fenced: list[int] = field(default_factory=list)
    lost: int = 0
    """The number of contentions that another rank won."""
    followed: int = 0
    """The number of snapshots of other ranks that were read."""
    calls: dict[str, int] = field(default_factory=dict)
    fault: str = ""


@dataclass(slots=True, kw_only=True)
class Rank:
    """A rank of a run."""

    report: Report
    size: Size
    machine: Machine
    board: Any
    """The ID of the run, in memory that all processes share."""
    barrier: Any
    stale: bool = False

    def play(self) -> None:
        """Take part in every round, and store a failure in the report."""
        try:
            self._begin()
            for turn in range(1, self.size.rounds + 1):
                self._round(turn)
        except BrokenBarrierError:
            pass
        except BaseException:  # noqa: BLE001 - the test process reports every failure
            self.report.fault = traceback.format_exc()
            self.barrier.abort()
        store: Any = self.machine.store
        self.report.calls = dict(store.calls)

    def _begin(self) -> None:
        if self.report.rank == 0:
            self.board.value = self.machine.begin().encode()
            self._own(1, 0)
            self._train(2)
            self._die()
        self._meet()

    def _die(self) -> None:
        self.machine.attempt.release()
        self.machine.opened = None

    def _round(self, turn: int) -> None:
        """Contend for the next attempt. The winner trains, and the other ranks follow."""
        run, is_owner = self.board.value.decode(), False
        if self.stale or not self.size.contends(self.report.rank, turn):
            self._meet()
            if self.stale:
                self._publish_late()
        else:
            try:
                # all contenders claim the same number at the same time
                step = self.machine.take_over(run, after_hold=self._meet)
                is_owner = True
                self._own(self.machine.attempt.record.attempt, step)
            except ClaimedError:
                self.report.lost += 1
        self._meet()
        if is_owner:
            self._train(1 + turn % 3)
        elif self.stale:
            self._publish_late()
            assert self.machine.attempt.record.attempt in {*self.report.sealed, *self.report.fenced}
        self._meet()
        if is_owner:
            self._end(turn)
        elif not self.stale:
            self._follow(run, turn)
        self._meet()

    def _own(self, attempt: int, step: int) -> None:
        claim = claim_of(self.machine.attempt.folder)
        assert claim is not None
        self.report.owned[attempt], self.report.began[attempt] = claim.decode(), step

    def _train(self, snapshots: int) -> None:
        for _ in range(snapshots):
            saved = self.machine.train(1)
            self.machine.snapshot(saved)
            self.report.published[self.machine.attempt.record.attempt] = saved.step

    def _follow(self, run: str, turn: int) -> None:
        """Read the newest snapshot of this round's attempt."""
        assert newest_snapshot(self.machine.store, run, turn + 1) is not None
        self.report.followed += 1

    def _end(self, turn: int) -> None:
        """Complete the run in the last round; otherwise end with a fate that depends only on run and round."""
        is_last = turn == self.size.rounds
        fate = FATES[random.Random(f"{self.report.run} {turn}").randrange(len(FATES))]  # noqa: S311 - a reproducible choice, not for cryptography
        if is_last or fate == "preempted":
            self.report.sealed += self.machine.finish(RunStatus.COMPLETED if is_last else RunStatus.PREEMPTED)
        self.stale = fate == "stale" and not is_last
        if not self.stale:
            self._die()

    def _publish_late(self) -> None:
        """Try to publish as an owner that may have been replaced."""
        machine = self.machine
        if machine.opened is None:
            return
        attempt = machine.attempt.record.attempt
        try:
            if machine.attempt.record.outcome.status is RunStatus.RUNNING:
                machine.snapshot(machine.train(1))
                self.report.published[attempt] = machine.step
            self.report.sealed += machine.finish(RunStatus.FAILED)
        except ClaimedError:
            self.report.fenced.append(attempt)

    def _meet(self) -> None:
        self.barrier.wait(PATIENCE_S)


def play(address: str, folder: str, size: Size, process: int, boards: Any, barriers: Any) -> None:
    """Run the ranks of one process, and write their reports."""
    store = open_store(address)
    ranks = []
    for run in range(size.runs):
        for rank in range(process, size.ranks, size.processes):
            name = f"{run}-{rank}"
            machine = Machine(name=name, runs=Path(folder) / name / "runs", store=CountingStore(store))
            report = Report(run=run, rank=rank)
            ranks.append(Rank(report=report, size=size, machine=machine, board=boards[run], barrier=barriers[run]))
    threads = [Thread(target=rank.play) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = {"torch": "torch" in sys.modules, "ranks": [asdict(rank.report) for rank in ranks]}
    (Path(folder) / f"reports-{process}.json").write_text(json.dumps(content))


def simulate(address: str, folder: Path, size: Size) -> tuple[list[Report], list[str]]:
    """Run a simulation in processes; return the reports of all ranks and the IDs of the runs."""
    context = multiprocessing.get_context("spawn")
    boards: list[Any] = [context.Array("c", LONGEST_ID) for _ in range(size.runs)]
    barriers = [context.Barrier(size.ranks) for _ in range(size.runs)]
    words = [(address, str(folder), size, number, boards, barriers) for number in range(size.processes)]
    processes = [context.Process(target=play, args=each) for each in words]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    names = [board.value.decode() for board in boards]
    reports = []
    for number in range(size.processes):
        content = json.loads((folder / f"reports-{number}.json").read_text())
        assert not content["torch"]
        for each in content["ranks"]:
            numbers = {
                name: {int(key): value for key, value in each[name].items()} for name in ("owned", "began", "published")
            }
            reports.append(Report(**each | numbers))
    return reports, names


def require_sound(reports: list[Report], names: list[str], *, store: Store, size: Size, folder: Path) -> None:
    """Raise `AssertionError` if an attempt was lost, or an attempt number did not have exactly one owner."""
    faults = [report.fault for report in reports if report.fault]
    assert faults == [], faults[0]
    for number, run in enumerate(names):
        mine = [report for report in reports if report.run == number]
        owners = Counter(attempt for report in mine for attempt in report.owned)
        assert owners == Counter(range(1, size.rounds + 2)), (run, owners)
        for report in mine:
            for attempt, claim in report.owned.items():
                found = stored_claim(store, run, attempt)
                assert found is not None
                assert found.to_json().decode() == claim
        _require_progress(mine, run)
        pulled = {record.attempt: record for record in pull_run(run, store, runs=folder / "auditor")}
        published = {attempt for report in mine for attempt in report.published}
        assert pulled.keys() == published, (run, pulled.keys(), published)
        sealed = {attempt for report in mine for attempt in report.sealed}
        assert {each for each in pulled if store.size(sealed_key(run, each)) is not None} == sealed
        assert pulled[size.rounds + 1].outcome.status is RunStatus.COMPLETED
        assert not {attempt for report in mine for attempt in report.fenced} & sealed


def _require_progress(mine: list[Report], run: str) -> None:
    """Require that each attempt resumed from the last step published before it, or one step earlier if a stale rank published late."""
    began = {attempt: step for report in mine for attempt, step in report.began.items()}
    published = {attempt: step for report in mine for attempt, step in report.published.items()}
    for attempt in sorted(began)[1:]:
        # a stale rank may have taken another step
        assert began[attempt] >= published[attempt - 1] - 1, (run, attempt, began, published)


def numbers(reports: list[Report], size: Size) -> str:
    """Return the statistics of a simulation as a line of text."""
    totals = [sum(report.calls.values()) for report in reports]
    kinds = Counter[str]()
    for report in reports:
        kinds += Counter(report.calls)
    fenced, followed = sum(len(report.fenced) for report in reports), sum(report.followed for report in reports)
    return (
        f"{len(reports)} ranks of {size.runs} runs in {size.processes} processes, {size.rounds} rounds: "
        f"{sum(len(report.owned) for report in reports)} attempts, {sum(report.lost for report in reports)} lost contentions, "
        f"{sum(len(report.sealed) for report in reports)} seals, {fenced} rejected publications, {followed} snapshots followed; "
        f"store calls of a rank: at most {max(totals)}, mean {sum(totals) / len(totals):.1f}; all: {dict(sorted(kinds.items()))}"
    )
