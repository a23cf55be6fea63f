"""Publish checkpoints in a background thread: training neither waits for the store nor fails if the store fails."""

from __future__ import annotations

from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Final

from trainer.base.errors import ClaimedError, RepriseError
from trainer.base.parallel import StopFlag, StoppedPieceError
from trainer.runs.snapshot import OpenCheckpoint, publish_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.runs.checkpoint_pointer import Saved
    from trainer.stores.contract import Store

_GRACE_S: Final = 10.0
"""The maximum time in seconds that `end` waits for the file that is being uploaded."""


class BackgroundPublication:
    """Publishes checkpoints of a running attempt, at most one at a time and one every `every` seconds."""

    def __init__(
        self,
        attempt: Path,
        open_store: Callable[[], Store],
        *,
        every: float,
        say: Callable[[str], None],
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Publish checkpoints of the attempt in the folder `attempt`; `say` prints a fault, and `note` reports a success.

        `open_store` opens a store that does not use the process's random number generators.
        """
        self.attempt, self.open_store, self.every = attempt, open_store, every
        self.say, self.note = say, note
        self.stop = StopFlag()
        self._store: Store | None = None
        self._began, self._number, self._fault = monotonic(), 0, ""
        self._thread: Thread | None = None

    def offer(self, saved: Saved) -> None:
        """Start to publish a checkpoint that was just saved, if `every` seconds have passed and no other checkpoint is being published."""
        if self.stop.is_set or monotonic() - self._began < self.every:
            return
        if self._thread is not None and self._thread.is_alive():
            return
        try:
            checkpoint = OpenCheckpoint.of(self.attempt, saved)
        except (OSError, RepriseError) as fault:
            self._report(saved, fault)
            return
        self._began = monotonic()
        self._thread = Thread(target=self._publish, args=(checkpoint,), daemon=True, name="publish-checkpoint")
        self._thread.start()

    def end(self) -> None:
        """Stop publishing after the current file, and wait up to 10 s for it."""
        self.stop.set()
        if self._thread is not None:
            self._thread.join(_GRACE_S)

    def _publish(self, checkpoint: OpenCheckpoint) -> None:
        try:
            self._store = self._store or self.open_store()
            found = publish_snapshot(checkpoint, self._store, check=self.stop.check, after=self._number)
        except StoppedPieceError:
            return
        except (OSError, RepriseError) as fault:
            self._report(checkpoint.saved, fault)
            if isinstance(fault, ClaimedError):  # another process has resumed the run: no later snapshot can succeed
                self.stop.set()
        else:
            self._number, self._fault = found.number, ""
            self.note(f"checkpoint of step {found.step} published to {self._store.label}")
        finally:
            checkpoint.close()

    def _report(self, saved: Saved, fault: OSError | RepriseError) -> None:
        """Print a fault, unless the previous checkpoint had the same fault or publishing has stopped."""
        text = fault.message if isinstance(fault, RepriseError) else str(fault)
        if self.stop.is_set or text == self._fault:
            return
        self._fault = text
        self.say(f"checkpoint of step {saved.step} was not published: {text}")
