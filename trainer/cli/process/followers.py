"""The processes of the other ranks: rank 0 starts them, watches them, and reports which one ended."""

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

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.training.shards.ranks import RankPlace

VARIABLE: Final = "REPRISE_RANK"
_GRACE: Final = 10.0
"""Seconds within which ranks end by themselves after a failure of one of them."""
_LAST: Final = 2000


class FollowerPlace(Document):
    """The message to the process of another rank."""

    rank: int
    world: int
    meeting: str
    attempt: str
    """The absolute path of the attempt's folder."""


def read_place(environ: Mapping[str, str]) -> FollowerPlace | None:
    """Return the place of a process that `followers` started; `None` for rank 0."""
    text = environ.get(VARIABLE)
    return None if text is None else parse_json(text, FollowerPlace, where=VARIABLE)


@dataclass(slots=True)
class Followers:
    """The processes of ranks 1 and above."""

    attempt: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def check(self) -> None:
        """Raise `RankError` if a process has ended with an error."""
        for rank, process in enumerate(self.processes, 1):
            if code := process.poll():
                message = f"rank {rank} of {len(self.processes) + 1} {_described(code)}"
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
        """Wait for all processes to end, and kill those that do not."""
        end = monotonic() + _GRACE
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - monotonic()))
            if process.poll() is None:
                process.kill()
                process.wait()

    def _hint(self, rank: int) -> str:
        return f"{_log(rank)} in the attempt's folder has its output; --resume continues from the last checkpoint"

    def _last_line(self, rank: int) -> str:
        with attempt_root(self.attempt) as folder, folder.open(_log(rank)) as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _LAST))
            lines = log.read(_LAST).decode(errors="replace").split("\n")
        errors = [line for line in lines if line.startswith("reprise: ")]
        return errors[-1].removeprefix("reprise: ") if errors else ""


def _log(rank: int) -> str:
    """Return the file of the attempt with the output of a rank."""
    return f"rank-{rank}.txt"


def _described(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


@contextmanager
def followers(count: int, *, attempt: Path, argv: Sequence[str]) -> Iterator[tuple[RankPlace | None, Followers]]:
    """Start the processes of all ranks but this one; at the end of the block wait for them, and report the one that failed.

    Yield the place of this process; `None` if it is the only one.
    """
    from trainer.training.shards.ranks import RankPlace

    running = Followers(attempt)
    if count == 1:
        yield None, running
        return
    with TemporaryDirectory(prefix="reprise-ranks-") as folder:
        meeting = str(Path(folder) / "meeting")
        try:
            for rank in range(1, count):
                place = FollowerPlace(rank=rank, world=count, meeting=meeting, attempt=str(attempt))
                running.processes.append(_start(place, argv))
            yield RankPlace(rank=0, world=count, meeting=meeting), running
        except RankError:
            running.wait_for_failure()
            raise
        finally:
            running.end()


def _start(place: FollowerPlace, argv: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "trainer", "_process", *argv]
    with attempt_root(Path(place.attempt)) as attempt, attempt.append(_log(place.rank)) as log:
        return subprocess.Popen(
            command,
            env={**os.environ, VARIABLE: place.model_dump_json()},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
