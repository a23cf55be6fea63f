"""Reproducing a run: the inputs of the container, and the results that are accepted."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.environments.engine.memory import MemoryEngine
from tests.records import circumstances, ingredients
from tests.runs.runs import finish_run
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, RunError
from trainer.comparison.reproduce import (
    ContainerSettings,
    PreparedRerun,
    load_rerun_record,
    prepare_rerun,
    run_confined,
)
from trainer.environments.engine import ImageFacts, IsolatedContainer
from trainer.runs.image_claim import OBSERVED_IMAGE
from trainer.runs.open_run import open_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.run import ATTEMPTS
from trainer.source.capture import ARCHIVE, capture
from trainer.source.copy import load_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trainer.runs.open_run import OpenRun
    from trainer.runs.record import Record

BUILD = digest_of_bytes(b"build")
IMAGE = ImageFacts(
    id=digest_of_bytes(b"manifest"),
    tags=(),
    references=(),
    layers=(digest_of_bytes(b"layer"),),
    size=1,
    created="",
    labels={"reprise.build-id": BUILD},
)


@dataclass(slots=True, kw_only=True)
class Bench:
    runs: Path
    original: Record
    engine: MemoryEngine
    cache_limit: str = ""

    @contextmanager
    def ready(self) -> Iterator[PreparedRerun]:
        bundle = load_bundle(self.runs / self.original.run / ARCHIVE, digest=self.original.ingredients.source)
        with prepare_rerun(self.original, bundle, runs=self.runs) as ready:
            yield ready

    def go(self, ready: PreparedRerun, inside: Callable[[PreparedRerun], object]) -> IsolatedContainer:

        def code(_: IsolatedContainer) -> int:
            inside(ready)
            return 0

        self.engine.inside = code
        place = ContainerSettings(image=IMAGE, uid=1000, gid=1000, host="h", cache_limit=self.cache_limit)
        assert run_confined(ready, container=place, engine=self.engine, say=lambda _: None) == 0
        return self.engine.confined[-1]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    record = finish_run(tmp_path / "runs").record
    return Bench(runs=tmp_path / "runs", original=record, engine=MemoryEngine(images_by_id={IMAGE.id: IMAGE}))


def run_honestly(ready: PreparedRerun) -> OpenRun:
    """Behave like honest recorded code: freeze the source, write a result, and close the record."""
    given = ingredients(source=capture(ready.source).digest)
    run = open_run(ready.folder, ingredients=given, circumstances=circumstances())
    (run.folder / "weights").write_bytes(b"weights")
    run.close(Outcome(status=RunStatus.COMPLETED, metrics={"test_accuracy": 0.1 + 0.2}, steps=10))
    return run


def test_a_retest_is_an_ordinary_run_of_the_same_identity(bench: Bench) -> None:
    with bench.ready() as ready:
        bench.go(ready, run_honestly)
        record = load_rerun_record(ready.folder)
    assert record.run != bench.original.run
    assert record.identity == bench.original.identity
    assert sorted(path.name for path in bench.runs.iterdir()) == sorted([bench.original.run, record.run])


def test_the_container_gets_only_known_paths_and_digests(bench: Bench) -> None:
    with bench.ready() as ready:
        given = bench.go(ready, run_honestly)
        assert {mount.target for mount in given.mounts if mount.writable} == {"/cache", f"/runs/{ready.run}"}
        assert {mount.source for mount in given.mounts} == {
            ready.source,
            ready.settings,
            ready.store,
            ready.cache,
            ready.folder,
        }
    assert given.image == IMAGE.id
    assert given.words == ("train", "--exp=digits", "--settings=/run/reprise/settings.toml")
    assert not [name for name in given.variables if name.startswith(("AWS", "WANDB"))]
    assert given.variables["REPRISE_STORE"] == "/store"


def test_the_limit_of_the_cache_reaches_the_rerun(bench: Bench) -> None:
    with bench.ready() as ready:
        assert "REPRISE_CACHE_LIMIT" not in bench.go(ready, run_honestly).variables
    bench.cache_limit = "20GB"
    with bench.ready() as ready:
        assert bench.go(ready, run_honestly).variables["REPRISE_CACHE_LIMIT"] == "20GB"


def test_the_image_is_recorded_before_the_container_starts(bench: Bench) -> None:
    with bench.ready() as ready:
        bench.go(ready, run_honestly)
        observed = json.loads((ready.folder / OBSERVED_IMAGE).read_text())
    assert (observed["manifest"], observed["build_id"], observed["layers"]) == (IMAGE.id, BUILD, list(IMAGE.layers))


def test_a_retest_that_never_opened_leaves_nothing(bench: Bench) -> None:
    with bench.ready() as ready:
        bench.go(ready, lambda _: None)
        with pytest.raises(RunError, match="before its record was opened"):
            load_rerun_record(ready.folder)
    assert [path.name for path in bench.runs.iterdir()] == [bench.original.run]


def leave_link(ready: PreparedRerun) -> None:
    (run_honestly(ready).folder / "stolen").symlink_to("/etc/passwd")


def leave_unlisted_file(ready: PreparedRerun) -> None:
    (run_honestly(ready).folder / "more").write_bytes(b"x")


def rename_record(ready: PreparedRerun) -> None:
    path = run_honestly(ready).folder / "record.json"
    path.write_text(path.read_text().replace(ready.run, ready.original.run))


@pytest.mark.parametrize("inside", [leave_link, leave_unlisted_file, rename_record])
def test_results_of_hostile_code_are_rejected(bench: Bench, inside: Callable[[PreparedRerun], None]) -> None:
    with bench.ready() as ready:
        bench.go(ready, inside)
        with pytest.raises(DigestMismatchError):
            load_rerun_record(ready.folder)
        (ready.folder / ATTEMPTS / "1" / "record.json").unlink()
