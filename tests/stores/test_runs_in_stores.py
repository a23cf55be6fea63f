"""Runs in every kind of store: published on one machine, and pulled on another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.runs.runs import finish_run
from trainer.runs.list import RunLocation, list_runs
from trainer.runs.publish import publish_run
from trainer.runs.pull import pull_run
from trainer.source.capture import COPY
from trainer.stores.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.stores.contract import Store


def test_a_run_round_trips_through_the_store(store: Store, tmp_path: Path) -> None:
    here, there = tmp_path / "one" / "runs", tmp_path / "other" / "runs"
    run = finish_run(here)
    home = run.folder.parents[1]
    assert publish_run(home, store) == publish_run(home, store)
    assert [listed.location for listed in list_runs(there, store=store)] == [RunLocation.REMOTE]
    assert pull_run(home.name, store, runs=there) == [run.record]
    files = {path.relative_to(home): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    files = {path: data for path, data in files.items() if path.parts[0] != COPY}
    assert {path: (there / home.name / path).read_bytes() for path in files} == files


def test_a_run_counts_as_published_only_if_the_given_store_has_it(store: Store, tmp_path: Path) -> None:
    runs, other = tmp_path / "one" / "runs", MemoryStore()
    other.label = "memory: of another team"
    home = finish_run(runs).folder.parents[1]
    assert _where(runs, store) == RunLocation.LOCAL
    publish_run(home, other)
    assert (_where(runs, store), _where(runs, other), _where(runs, None)) == (
        RunLocation.OTHER,
        RunLocation.PUBLISHED,
        RunLocation.PUBLISHED,
    )
    publish_run(home, store)
    assert (_where(runs, store), _where(runs, other)) == (RunLocation.PUBLISHED, RunLocation.PUBLISHED)


def _where(runs: Path, store: Store | None) -> RunLocation:
    return list_runs(runs, store=store)[0].location
