"""The claims of attempts in a store: which process owns each attempt number of a run, and whether an attempt may still publish.

A claim is created once and never changed, so each number has one owner even if some machines are unreachable. A process that finds the
next number claimed takes a later number. From then on the earlier attempt cannot publish, even if its process still runs on an unreachable
machine. The numbers 1, 2, ... are probed, and a claim is created after those of all earlier attempts, so the first number without a
claim ends the search. The store is never listed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import ClaimedError, DocumentError, ObjectMissingError, RunError
from trainer.base.safe_folder import run_root
from trainer.runs.open_run import claim_of, hold_number
from trainer.runs.record import MOST_ATTEMPTS
from trainer.runs.run import ATTEMPTS, CLAIM, attempts, record_of, recorded_attempts
from trainer.runs.seal import SMALL, Claim, claim_key, read_claim
from trainer.stores.transfer import read_small

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.stores.contract import Store

_NOBODY: Final = "0" * 32
"""The token of an attempt that was killed before it wrote its claim."""


def stored_claim(store: Store, run: str, attempt: int) -> Claim | None:
    """Return the claim of an attempt in a store; `None` if the attempt is not claimed. Raise `DocumentError` if the claim is invalid."""
    key = claim_key(run, attempt)
    try:
        text = read_small(store, key, largest=SMALL)
    except ObjectMissingError:
        return None
    where = f"{key} in {store.label}"
    claim = read_claim(text, where=where)
    if (claim.run, claim.attempt) != (run, attempt):
        message = f"{where} is the claim of run {claim.run}, attempt {claim.attempt}"
        raise DocumentError(message, hint="it is damaged or forged: ask the author of the run for a new copy")
    return claim


def hold_claimed_numbers(folder: Path, store: Store, *, identity: str) -> list[Claim]:
    """Return the claims of attempts that follow those in a run's folder, and reserve their numbers there.

    Raise `RunError` if a claim has another identity, `DocumentError` if a claim is invalid, `StoreError`.
    """
    found: list[Claim] = []
    number = len(attempts(folder)) + 1
    while number <= MOST_ATTEMPTS and (claim := stored_claim(store, folder.name, number)) is not None:
        if claim.identity != identity:
            message = (
                f"run {folder.name} is {claim.identity} in {store.label}; found {identity}: its ingredients differ"
            )
            raise RunError(message, hint="start a new run")
        with disk_faults(folder), run_root(folder) as run:
            hold_number(run, number, claim.to_json())
        found.append(claim)
        number += 1
    return found


def claim_in_store(folder: Path, store: Store, *, attempt: int) -> None:
    """Write the claim of an attempt to `store`, after the claims of earlier attempts that `store` lacks.

    Raise `ClaimedError` if a number is claimed by another process, `RunError` if the attempt has no claim, `StoreError`.
    """
    number = attempt
    while number > 1:
        if (found := stored_claim(store, folder.name, number - 1)) is not None:
            _require_own(folder, found, store)
            break
        number -= 1
    for each in range(number, attempt + 1):
        _create(folder, store, attempt=each)


def require_last(folder: Path, store: Store, *, attempt: int | None = None) -> None:
    """Raise `ClaimedError` if another process has claimed a later attempt of the run in `folder`.

    `attempt` is the attempt of the calling process; by default, all attempts in the folder count as this machine's own.
    """
    last = max(attempts(folder), default=0)
    own = last if attempt is None else attempt
    if own < last:
        text = claim_of(folder / ATTEMPTS / str(own + 1))
        later = None if text is None else read_claim(text, where=str(folder / ATTEMPTS / str(own + 1) / CLAIM))
        raise _replaced(folder, own, host=later.host if later else "", store=store)
    if (found := stored_claim(store, folder.name, own + 1)) is not None:
        raise _replaced(folder, own, host=found.host, store=store)


def _replaced(folder: Path, own: int, *, host: str, store: Store) -> ClaimedError:
    message = (
        f"attempt {own + 1} of run {folder.name} continues it{f' on host {host}' if host else ''}: "
        f"attempt {own} can no longer publish to {store.label}"
    )
    hint = f"the results stay on this machine; to publish them beside it: `reprise runs pull {folder.name}`, then `reprise runs publish`"
    return ClaimedError(message, hint=hint, host=host)


def _create(folder: Path, store: Store, *, attempt: int) -> None:
    own = claim_of(folder / ATTEMPTS / str(attempt))
    if own is None:
        if attempt in recorded_attempts(folder):
            path = folder / ATTEMPTS / str(attempt) / CLAIM
            message = f"{path} is missing: the owner of the attempt is unknown"
            raise RunError(message, hint="restore the file, then publish again")
        own = _placeholder(folder, attempt)
    if store.create(claim_key(folder.name, attempt), own):
        return
    if (found := stored_claim(store, folder.name, attempt)) is not None:
        _require_own(folder, found, store)


def _placeholder(folder: Path, attempt: int) -> bytes:
    """Return a claim for an attempt without one, so that probing 1, 2, ... finds the next attempt."""
    record = record_of(folder)
    host = record.circumstances.host.name
    return Claim(run=folder.name, attempt=attempt, identity=record.identity, host=host, token=_NOBODY).to_json()


def _require_own(folder: Path, found: Claim, store: Store) -> None:
    """Raise `ClaimedError` unless the run's folder has the same claim, or neither a claim nor a record of the attempt."""
    own = claim_of(folder / ATTEMPTS / str(found.attempt))
    if own == found.to_json() or (own is None and found.attempt not in recorded_attempts(folder)):
        return
    message = f"attempt {found.attempt} of run {folder.name} is already in {store.label}, from host {found.host}"
    hint = (
        f"nothing was changed there; to continue that run here: REPRISE_RUNS=DIR reprise train --resume {folder.name}"
    )
    raise ClaimedError(message, hint=hint, host=found.host)
