"""The store during an attempt: its number is claimed when it opens, and its checkpoints are published while it runs.

A training does not depend on the store: if the store does not respond, a line reports this, and the number is claimed when the run is
published.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from trainer.base.errors import RepriseError, StoreError
from trainer.cli.configuration import store_at
from trainer.cli.output import escaping
from trainer.runs.background import BackgroundPublication
from trainer.runs.claims import claim_in_store, hold_claimed_numbers
from trainer.runs.record import identity_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trainer.cli.process.attempt import RunningAttempt
    from trainer.runs.checkpoint_pointer import Saved
    from trainer.runs.open_run import OpenRun
    from trainer.runs.record import Ingredients
    from trainer.stores.contract import Store


@dataclass(slots=True)
class StoreClaims:
    """The claims of a run's attempts in the configured store; without a store nothing is claimed."""

    store: Store | None = None

    @classmethod
    def configured(cls, *, publishes: bool) -> StoreClaims:
        """Return the claims in the store to which the run is published, if the run is published and the store can be opened."""
        address = os.environ.get("REPRISE_STORE")
        if not publishes or not address:
            return cls()
        try:
            return cls(store_at(address))
        except RepriseError as fault:
            _report(fault)
            return cls()

    def hold_numbers(self, folder: Path, ingredients: Ingredients) -> None:
        """Reserve, in the run's folder, the numbers that other machines have claimed.

        Raise `RunError` if the store has another run with the same ID.
        """
        if self.store is None:
            return
        try:
            found = hold_claimed_numbers(folder, self.store, identity=identity_of(ingredients))
        except StoreError as fault:
            self.store = None
            _report(fault)
            return
        for claim in found:
            line = f"attempt {claim.attempt} was started on host {claim.host}: this attempt continues the run"
            print(f"{line}, and attempt {claim.attempt} can no longer be published", file=escaping(sys.stderr))

    def claim(self, opened: OpenRun) -> None:
        """Claim the number of an open attempt. If another process has claimed it, remove the attempt and raise `ClaimedError`."""
        if self.store is None:
            return
        try:
            claim_in_store(opened.folder.parents[1], self.store, attempt=opened.record.attempt)
        except StoreError as fault:
            _report(fault)
        except RepriseError:
            opened.withdraw()
            raise
        else:
            opened.is_claimed = True


def _report(fault: RepriseError) -> None:
    print(
        f"cannot claim the attempt now ({fault.message}); it will be claimed when it is published",
        file=escaping(sys.stderr),
    )


@contextmanager
def publishing(session: RunningAttempt) -> Iterator[Callable[[Saved], None]]:
    """Yield a function that takes each saved checkpoint; checkpoints are published every `publish_every` minutes during the block."""
    minutes, address = session.resolved.settings.publish_every, os.environ.get("REPRISE_STORE")
    if minutes is None:
        yield lambda _: None
        return
    if not session.publishes or not address:
        reason = "no store is configured" if session.publishes else "the setting publish is off"
        session.say(f"checkpoints are not published during the run: {reason}")
        yield lambda _: None
        return
    publication = BackgroundPublication(
        session.opened.folder,
        partial(store_at, address, tries=1),
        every=60 * minutes,
        say=session.say,
        note=session.note,
    )
    try:
        yield publication.offer
    finally:
        publication.end()
