"""The processes of a machine's other ranks: the machine's first process starts them, watches them, and reports a rank that fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from trainer.base.document import Document, parse_json
from trainer.base.errors import RankError
from trainer.base.run_files import attempt_root
from trainer.training.shards.place import RankPlace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.cli.nodes import NodePlace

VARIABLE: Final = "REPRISE_RANK"
_GRACE: Final = 10.0
"""Seconds within which ranks end by themselves after one rank has failed."""
_LAST: Final = 2000
"""Bytes at the end of a rank's output that are searched for its error."""
_SHOWN: Final = 20_000
"""Bytes at the end of a rank's output that a machine other than node 0 prints if the run fails."""


class FollowerPlace(Document):
    """The message to the process of another rank."""

    place: RankPlace
    run: str
    attempt: str
    """The absolute path of the attempt's folder; on a machine other than node 0, the path of a temporary folder."""


def read_place(environ: Mapping[str, str]) -> FollowerPlace | None:
    """Return the place of a process that `followers` started; `None` for the first process of a machine."""
    text = environ.get(VARIABLE)
    return None if text is None else parse_json(text, FollowerPlace, where=VARIABLE)


@dataclass(slots=True)
class Followers:
    """The processes of this machine's other ranks."""

    first: RankPlace | None
    """The place of this process."""
    attempt: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def check(self) -> None:
        """Raise `RankError` if a process has ended with an error."""
        for rank, process in enumerate(self.processes, 1 + (self.first.rank if self.first else 0)):
            if code := process.poll():
                message = f"rank {rank} of {self.first.world if self.first else 1} {_described(code)}"
                line = self._last_line(rank)
                raise RankError(f"{message}: {line}" if line else message, hint=self._hint(rank))

    def wait_for_failure(self) -> None:
        """Raise `RankError` if a process ends with an error within the grace time."""
        end = monotonic() + _GRACE
        while monotonic() < end and any(process.poll() is None for process in self.processes):
            self.check()
            sleep(0.05)
        self.check()

    def end(self) -> None:
        """Wait for all processes to end, and kill the processes that do not end within the grace time."""
        end = monotonic() + _GRACE
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - monotonic()))
            if process.poll() is None:
                process.kill()
                process.wait()

    def _hint(self, rank: int) -> str:
        if self.first is not None and self.first.node > 0:
            return "its output is above; the same command on every machine resumes the run (--resume-or-begin)"
        return f"{_log(rank)} in the attempt's folder has its output; --resume continues from the last checkpoint"

    def outputs(self) -> Iterator[tuple[int, str]]:
        """Yield each rank with the end of its output, for a machine that keeps no folder of the attempt."""
        for rank, _ in enumerate(self.processes, 1 + (self.first.rank if self.first else 0)):
            yield rank, self._end_of_output(rank, _SHOWN)

    def _last_line(self, rank: int) -> str:
        lines = self._end_of_output(rank, _LAST).split("\n")
        errors = [line for line in lines if line.startswith("reprise: ")]
        return errors[-1].removeprefix("reprise: ") if errors else ""

    def _end_of_output(self, rank: int, most: int) -> str:
        with attempt_root(self.attempt) as folder, folder.open(_log(rank)) as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - most))
            return log.read(most).decode(errors="replace")


def _log(rank: int) -> str:
    """Return the name of the file, in the attempt's folder, with the output of a rank."""
    return f"rank-{rank}.txt"


def _described(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


@contextmanager
def followers(first: RankPlace | None, *, run: str, attempt: Path, argv: Sequence[str]) -> Iterator[Followers]:
    """Start the processes of this machine's other ranks, and wait for them at the end of the block.

    If the block raises `RankError`, raise the `RankError` of a process that failed within the grace time instead, if any.
    """
    running = Followers(first, attempt)
    if first is None:
        yield running
        return
    try:
        for number in range(1, first.here):
            place = first.model_copy(update={"rank": first.rank + number, "local_rank": number})
            running.processes.append(_start(FollowerPlace(place=place, run=run, attempt=str(attempt)), argv))
        yield running
    except RankError:
        running.wait_for_failure()
        raise
    finally:
        running.end()


@contextmanager
def first_place(devices: int, node: NodePlace | None) -> Iterator[RankPlace | None]:
    """Yield the place of this machine's first process; `None` if it is the only process. On a single machine, ranks meet by a file."""
    if devices == 1:
        yield None
    elif node is None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # no other machine connects
        with TemporaryDirectory(prefix="reprise-ranks-") as folder:
            yield RankPlace(rank=0, world=devices, local_rank=0, here=devices, meeting=str(Path(folder) / "meeting"))
    else:
        here = node.devices_here(devices)
        meeting = f"tcp://{node.host}:{node.port}"
        yield RankPlace(rank=node.node * here, world=devices, local_rank=0, here=here, meeting=meeting)


def _start(follower: FollowerPlace, argv: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "trainer", "_process", *argv]
    with attempt_root(Path(follower.attempt)) as attempt, attempt.append(_log(follower.place.rank)) as log:
        return subprocess.Popen(
            command,
            env={**os.environ, VARIABLE: follower.model_dump_json()},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
