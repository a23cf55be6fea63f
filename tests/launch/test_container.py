"""Watching and signaling the container of a run."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.environments.engine.memory import MemoryEngine
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import EngineError
from trainer.environments.engine import ImageFacts
from trainer.launch.container import _BUILD_ID, ContainerCommand, record_image
from trainer.launch.contract import wait_recording_image
from trainer.runs.image_claim import OBSERVED_IMAGE, ObservedImage

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.environments.engine import Engine


ID = digest_of_bytes(b"an image")
BUILD = digest_of_bytes(b"its inputs")


class FailingEngine(MemoryEngine):
    def image_of(self, container: str) -> ImageFacts | None:
        raise EngineError(f"the engine broke while asked about {container}")


class Process:
    def __init__(self, polls: int) -> None:
        self.left = polls

    def poll(self) -> int | None:
        self.left -= 1
        return 0 if self.left < 0 else None

    def wait(self, timeout: float | None = None) -> int:
        if timeout is None:
            return 0
        raise subprocess.TimeoutExpired("it", timeout)


def watch(process: Process, engine: Engine, run: Path) -> tuple[int, list[str]]:
    """Watch a process to its end; return its exit code and the reported lines."""
    lines: list[str] = []
    training = ContainerCommand(cast("Any", process), run=run, engine=engine, report=lines.append)
    return wait_recording_image(training), lines


def observed(folder: Path) -> ObservedImage:
    return ObservedImage.model_validate_json((folder / OBSERVED_IMAGE).read_text())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_a_failing_engine_is_reported_and_does_not_stop_the_run(run: Path) -> None:
    code, lines = watch(Process(9), FailingEngine(), run)
    assert code == 0
    assert "the engine broke" in str(observed(run).fault)
    assert lines == ["the image of run run is not verified: the engine broke while asked about reprise-run"]


def test_an_image_that_reprise_did_not_build_is_inspected_once(run: Path) -> None:
    digest = digest_of_bytes(b"an image")
    image = ImageFacts(id=digest, tags=(), references=(), layers=(), size=1, created="2026")
    process = Process(9)
    watch(process, MemoryEngine(images_by_id={digest: image}, containers={"reprise-run": digest}), run)
    assert process.left == 8
    assert observed(run).build_id is None


def test_a_container_that_never_starts_ends_the_watch(run: Path) -> None:
    watch(Process(3), MemoryEngine(), run)
    assert not (run / OBSERVED_IMAGE).exists()


@pytest.mark.parametrize("is_removed", [True, False])
def test_a_folder_removed_by_the_container_is_not_an_error(run: Path, *, is_removed: bool) -> None:
    folder = run / "gone" if is_removed else run
    watch(Process(2), FailingEngine(), folder)
    assert (folder / OBSERVED_IMAGE).exists() is not is_removed


@pytest.mark.parametrize(("exists", "code"), [(True, 7), (False, 128 + signal.SIGTERM)])
def test_a_signal_reaches_the_container_or_prevents_its_start(
    run: Path, monkeypatch: pytest.MonkeyPatch, *, exists: bool, code: int
) -> None:
    docker = run.parent / "docker"
    docker.write_text(f'#!/bin/sh\necho "$@" >> {run.parent}/calls\nexit {int(not exists)}\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{run.parent}:{os.environ['PATH']}")
    command = subprocess.Popen(["sleep", "60"]) if not exists else subprocess.Popen(["sh", "-c", "exit 7"])
    training = ContainerCommand(command, run=run, engine=MemoryEngine(), report=print)
    training.send_signal(signal.SIGTERM)
    assert (training.wait(), training.poll()) == (code, code)
    removals = ["rm --force reprise-run"] if not exists else []
    assert (run.parent / "calls").read_text().splitlines() == ["kill --signal=SIGTERM reprise-run", *removals]


def engine_with_labels(labels: dict[str, str]) -> MemoryEngine:
    """Return an engine with one container, whose image has `labels`."""
    image = ImageFacts(
        id=ID, tags=(), references=(f"x/cpu@{ID}",), layers=(BUILD,), size=1, created="2026", labels=labels
    )
    return MemoryEngine(images_by_id={ID: image}, containers={"reprise-run": ID})


def test_reference_digests_layers_and_build_id_of_a_containers_image_are_recorded(run: Path) -> None:
    image = record_image(engine_with_labels({_BUILD_ID: BUILD}), "reprise-run", folder=run)
    assert image is not None
    assert (image.reference, image.build_id, image.layers) == (f"x/cpu@{ID}", BUILD, [BUILD])
    assert (run / OBSERVED_IMAGE).exists()


def test_nothing_is_recorded_before_the_container_exists(run: Path) -> None:
    assert record_image(engine_with_labels({_BUILD_ID: BUILD}), "reprise-other", folder=run) is None
    assert not (run / OBSERVED_IMAGE).exists()


def test_an_image_without_a_build_id_is_recorded_without_digests(run: Path) -> None:
    image = record_image(engine_with_labels({}), "reprise-run", folder=run)
    assert image is not None
    assert (image.build_id, image.config) == (None, None)
    assert (run / OBSERVED_IMAGE).exists()
