"""The store at the beginning of an attempt: claims, the host of another claimant, and a store that does not respond."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runs.machines import Machine
from trainer.base.errors import ClaimedError
from trainer.cli.process.publishing import StoreClaims
from trainer.runs.claims import stored_claim
from trainer.runs.open_run import open_run
from trainer.runs.run import attempts, record_of
from trainer.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.runs.open_run import OpenRun


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectoryStore:
    """Return the configured store."""
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("REPRISE_STORE", str(tmp_path / "store"))
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def first(store: DirectoryStore, tmp_path: Path) -> Machine:
    """Return a machine whose run has a snapshot and has ended without closing its record."""
    machine = Machine(name="first", runs=tmp_path / "first" / "runs", store=store)
    machine.begin()
    machine.snapshot(machine.train(1))
    machine.attempt.release()
    return machine


def opened(machine: Machine) -> OpenRun:
    record = record_of(machine.folder)
    return open_run(machine.folder, ingredients=record.ingredients, circumstances=record.circumstances)


def test_an_attempt_after_that_of_another_host_names_the_host(
    first: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Machine(name="second", runs=tmp_path / "second", store=first.store).take_over(first.run)
    claims = StoreClaims.configured(publishes=True)
    claims.hold_numbers(first.folder, record_of(first.folder).ingredients)
    attempt = opened(first)
    claims.claim(attempt)
    assert (attempt.record.attempt, attempt.is_claimed) == (3, True)
    assert capsys.readouterr().err.startswith("attempt 2 was started on host second: this attempt continues the run")


def test_an_attempt_whose_number_was_taken_is_removed(first: Machine, tmp_path: Path) -> None:
    claims = StoreClaims.configured(publishes=True)
    claims.hold_numbers(first.folder, record_of(first.folder).ingredients)
    Machine(name="second", runs=tmp_path / "second", store=first.store).take_over(first.run)
    with pytest.raises(ClaimedError, match="from host second"):
        claims.claim(opened(first))
    assert attempts(first.folder) == [1]


def test_a_run_that_is_not_published_claims_nothing(first: Machine, store: DirectoryStore) -> None:
    claims = StoreClaims.configured(publishes=False)
    claims.hold_numbers(first.folder, record_of(first.folder).ingredients)
    claims.claim(opened(first))
    assert stored_claim(store, first.run, 2) is None


def test_a_store_that_does_not_answer_is_one_line(
    first: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPRISE_STORE", str(tmp_path / "missing"))
    claims = StoreClaims.configured(publishes=True)
    claims.hold_numbers(first.folder, record_of(first.folder).ingredients)
    claims.claim(opened(first))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cannot claim the attempt now (store folder")
