"""Claims of attempts in a store: each number has one owner, and a replaced owner cannot publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.records import ingredients
from tests.runs.machines import Machine
from tests.runs.runs import finish_run
from trainer.base.errors import ClaimedError, DocumentError, RunError
from trainer.runs.claims import claim_in_store, hold_claimed_numbers, require_last, stored_claim
from trainer.runs.open_run import claim_of, open_run
from trainer.runs.publish import publish_run
from trainer.runs.pull import pull_run
from trainer.runs.record import Outcome, RunStatus, identity_of
from trainer.runs.resume import close_lost
from trainer.runs.run import ATTEMPTS, attempts, record_of
from trainer.runs.seal import claim_key, sealed_key
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.stores.contract import Store


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def first(tmp_path: Path, store: MemoryStore) -> Machine:
    machine = Machine(name="first", runs=tmp_path / "first" / "runs", store=store)
    machine.begin()
    machine.snapshot(machine.train(2))
    return machine


def machine(tmp_path: Path, store: Store, name: str) -> Machine:
    return Machine(name=name, runs=tmp_path / name / "runs", store=store)


def test_an_open_attempt_is_claimed_by_its_own_claim(first: Machine, store: MemoryStore) -> None:
    claim = stored_claim(store, first.run, 1)
    assert claim is not None
    assert claim.to_json() == claim_of(first.attempt.folder)
    claim_in_store(first.folder, store, attempt=1)  # claiming it again as the same owner succeeds


def test_a_machine_that_continues_the_run_takes_the_next_number(
    first: Machine, tmp_path: Path, store: MemoryStore
) -> None:
    second, third = machine(tmp_path, store, "second"), machine(tmp_path, store, "third")
    assert second.take_over(first.run) == 2
    assert third.take_over(first.run) == 2
    assert [second.attempt.record.attempt, third.attempt.record.attempt, third.numbers()] == [2, 3, [1, 2, 3]]
    assert [stored_claim(store, first.run, number).host for number in (2, 3)] == ["second", "third"]  # type: ignore[union-attr]


def test_a_replaced_owner_that_still_lives_cannot_publish(first: Machine, tmp_path: Path, store: MemoryStore) -> None:
    second = machine(tmp_path, store, "second")
    second.take_over(first.run)
    with pytest.raises(ClaimedError, match=r"attempt 2 of run .* continues it on host second") as caught:
        first.finish()
    assert (caught.value.host, store.size(sealed_key(first.run, 1))) == ("second", None)
    assert f"reprise runs pull {first.run}" in str(caught.value.hint)
    with pytest.raises(ClaimedError, match="host second"):
        first.snapshot(first.train(1))


def test_the_owner_of_the_last_attempt_publishes_its_own(first: Machine, tmp_path: Path, store: MemoryStore) -> None:
    second = machine(tmp_path, store, "second")
    second.take_over(first.run)
    second.train(2)
    second.finish()
    assert [store.size(sealed_key(first.run, number)) is None for number in (1, 2)] == [True, False]


def test_a_replaced_owner_that_pulls_the_later_attempt_can_publish_beside_it(
    first: Machine, tmp_path: Path, store: MemoryStore
) -> None:
    second = machine(tmp_path, store, "second")
    second.take_over(first.run)
    second.train(2)
    second.finish()
    with pytest.raises(ClaimedError):
        first.finish(RunStatus.FAILED)
    pull_run(first.run, store, runs=first.runs)
    publish_run(first.folder, store)
    assert [record.outcome.status for record in pull_run(first.run, store, runs=tmp_path / "there")] == [
        RunStatus.FAILED,
        RunStatus.COMPLETED,
    ]


def test_a_replaced_process_cannot_publish_from_a_folder_that_it_shares(first: Machine, store: MemoryStore) -> None:
    """The replacing process opened its attempt in the same folder, as on the shared file system of a cluster."""
    second = Machine(name="second", runs=first.runs, store=store)
    first.attempt.release()  # as on a file system that does not share locks between hosts
    close_lost(first.folder)
    second.take_over(first.run)
    first.attempt.close(Outcome(status=RunStatus.COMPLETED))
    with pytest.raises(ClaimedError, match="continues it on host second"):
        publish_run(first.folder, store, own=1)
    with pytest.raises(ClaimedError, match="continues it on host second"):
        first.snapshot(first.train(1))


class InterveningStore(MemoryStore):
    """A store that calls `before_seal` once, just before the seal of attempt 1 is written."""

    before_seal: Callable[[], object] | None = None

    def create(self, key: str, body: bytes) -> bool:
        """Store `body` unless the name exists."""
        if key.endswith("/1/sealed.json") and (action := self.before_seal):
            self.before_seal = None
            action()
        return super().create(key, body)


def test_a_seal_written_after_a_later_claim_changes_nothing_of_the_later_attempt(tmp_path: Path) -> None:
    """The owner checks, is replaced, and then seals, which only a lock could prevent."""
    store = InterveningStore()
    first, second = machine(tmp_path, store, "first"), machine(tmp_path, store, "second")
    run = first.begin()
    first.snapshot(first.train(2))
    first.train(1)
    store.before_seal = lambda: second.take_over(run)
    first.finish(RunStatus.PREEMPTED)
    assert (store.size(sealed_key(run, 1)) is not None, second.step) == (True, 2)
    second.train(3)
    second.finish()
    third = pull_run(run, store, runs=tmp_path / "third")
    assert [(record.attempt, record.outcome.steps) for record in third] == [(1, 3), (2, 5)]


def test_of_two_machines_that_continue_at_once_one_is_told_the_other_host(
    first: Machine, tmp_path: Path, store: MemoryStore
) -> None:
    second, third = machine(tmp_path, store, "second"), machine(tmp_path, store, "third")
    with pytest.raises(ClaimedError, match=r"attempt 2 of run .* is already in memory:, from host third") as caught:
        second.take_over(first.run, after_hold=lambda: third.take_over(first.run))
    assert (caught.value.host, second.numbers()) == ("third", [1])
    assert second.take_over(first.run) == 2
    assert second.attempt.record.attempt == 3


def test_a_folder_whose_attempt_was_made_elsewhere_too_is_rejected(
    first: Machine, tmp_path: Path, store: MemoryStore
) -> None:
    """The machine resumed without the store while another machine claimed the same number."""
    first.attempt.close(Outcome(status=RunStatus.PREEMPTED))
    open_run(
        first.folder, ingredients=first.attempt.record.ingredients, circumstances=first.attempt.record.circumstances
    )
    machine(tmp_path, store, "second").take_over(first.run)
    with pytest.raises(ClaimedError, match=r"attempt 2 of run .* from host second"):
        claim_in_store(first.folder, store, attempt=2)


def test_claims_that_a_store_missed_are_written_before_the_next(tmp_path: Path, store: MemoryStore) -> None:
    run = finish_run(tmp_path / "runs", status=RunStatus.PREEMPTED)
    folder = run.folder.parents[1]
    (folder / ATTEMPTS / "2").mkdir()  # an attempt that was killed before it wrote its claim
    third = open_run(folder, ingredients=run.record.ingredients, circumstances=run.record.circumstances)
    claim_in_store(folder, store, attempt=3)
    tokens = [stored_claim(store, folder.name, number).token for number in (1, 2, 3)]  # type: ignore[union-attr]
    assert (tokens[1], third.record.attempt, len({*tokens})) == ("0" * 32, 3, 3)


def test_a_run_with_the_same_id_and_other_ingredients_is_rejected(first: Machine, store: MemoryStore) -> None:
    other = identity_of(ingredients(experiment="other"))
    folder = first.runs.parent / "elsewhere" / first.run
    folder.mkdir(parents=True)
    with pytest.raises(RunError, match="its ingredients differ"):
        hold_claimed_numbers(folder, store, identity=other)
    assert attempts(folder) == []


def test_a_claim_of_another_attempt_is_rejected(first: Machine, store: MemoryStore) -> None:
    store.create(claim_key(first.run, 2), claim_of(first.attempt.folder) or b"")
    with pytest.raises(DocumentError, match=r"attempts/2/claim.json in memory: is the claim of run .*, attempt 1"):
        require_last(first.folder, store)


def test_a_claimed_number_of_an_attempt_that_is_withdrawn_is_kept(first: Machine, store: MemoryStore) -> None:
    first.attempt.close(Outcome(status=RunStatus.PREEMPTED))
    record = record_of(first.folder)
    again = open_run(first.folder, ingredients=record.ingredients, circumstances=record.circumstances)
    claim_in_store(first.folder, store, attempt=2)
    again.is_claimed = True
    again.withdraw()
    later = open_run(first.folder, ingredients=record.ingredients, circumstances=record.circumstances)
    assert later.record.attempt == 3
    later.close(Outcome(status=RunStatus.COMPLETED))
    assert len(publish_run(first.folder, store)) == 2


def test_publishing_again_is_possible_after_another_machine_continued(
    first: Machine, tmp_path: Path, store: MemoryStore
) -> None:
    first.finish(RunStatus.PREEMPTED)
    machine(tmp_path, store, "second").take_over(first.run)
    lost = next(key for key in store._objects if key.startswith("objects/"))
    del store._objects[lost]
    publish_run(first.folder, store)
    assert store.size(lost)
