"""Starting the points of a sweep, with a fake `docker` that logs its arguments."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.environments.engine.memory import MemoryEngine
from trainer.base.digest import digest_of_bytes
from trainer.base.errors import ImageMissingError
from trainer.cli.sweep.launchers import PointLauncher, points_in_containers, points_in_processes, slots_for
from trainer.environments.engine import ImageFacts
from trainer.runs.run_id import new_run_id
from trainer.source.capture import capture
from trainer.sweeps.document import Point, SettingsCopy, Sweep, SweepRequest
from trainer.sweeps.folder import create_sweep_folder

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = digest_of_bytes(b"an image")
DOCKER = '#!/bin/sh\nprintf "%s\\n" "$@" > "$DOCKER_LOG.words"\nenv > "$DOCKER_LOG.env"\n'


def make_sweep(tmp_path: Path) -> tuple[Sweep, Path]:
    """Return a sweep with a frozen image and compose file."""
    project, runs = tmp_path / "project", tmp_path / "runs"
    (project / "trainer").mkdir(parents=True)
    (project / "compose.yaml").write_text("services: {}\n")
    (project / "trainer" / "__init__.py").touch()
    (project / "trainer" / "__main__.py").write_text(
        "import json, os, sys\nprint(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]), file=sys.stderr)\n"
    )
    runs.mkdir()
    bundle = capture(project, runs=runs)
    sweep = Sweep(
        id=new_run_id(),
        created=datetime.now(UTC),
        asked=SweepRequest(
            experiment="digits",
            environment={"REPRISE_SETTING_WORKERS": "2"},
            secrets=["REPRISE_SETTING_TOKEN", "REPRISE_SETTING_GONE"],
            points=[{"seed": "1"}],
            files=[SettingsCopy(path="settings/base.toml", text=""), SettingsCopy(path="settings/a.toml", text="")],
        ),
        source=bundle.digest,
        captured=bundle.source,
        image={"REPRISE_IMAGE": IMAGE, "COMPOSE_FILE": "compose.yaml:compose.gpu.yaml"},
        points=[Point(settings={"seed": "1"})],
    )
    return sweep, create_sweep_folder(sweep, bundle, runs=runs)


@pytest.fixture
def docker_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a fake `docker` on PATH, set variables that differ from the sweep's, and return the path of the fake's logs."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(DOCKER)
    (tmp_path / "bin" / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_LOG", str(tmp_path / "docker"))
    monkeypatch.setenv("REPRISE_IMAGE", "localhost/of/today")
    monkeypatch.setenv("REPRISE_SETTING_TOKEN", "hush")
    monkeypatch.setenv("REPRISE_SETTING_SEED", "9")
    return tmp_path / "docker"


def run_point(place: PointLauncher, run: Path, log: Path, *, gpus: str | None = None) -> str:
    run.mkdir()
    with log.open("wb") as file:
        process = place.start(["--exp=digits"], run, log=file.fileno(), gpus=gpus)
    assert process.wait() == 0
    return log.read_text()


def image_facts() -> ImageFacts:
    return ImageFacts(id=IMAGE, tags=(), references=(), layers=(), size=1, created="2026")


def test_a_container_gets_the_frozen_values_and_not_the_shells(tmp_path: Path, docker_log: Path) -> None:
    sweep, folder = make_sweep(tmp_path)
    engine = MemoryEngine(images_by_id={IMAGE: image_facts()})
    place = points_in_containers(sweep, folder, checkout=tmp_path / "project", engine=engine)
    run = tmp_path / "runs" / new_run_id()
    run_point(place, run, tmp_path / "log", gpus="1")
    words = docker_log.with_suffix(".words").read_text().splitlines()
    environ = docker_log.with_suffix(".env").read_text().splitlines()
    assert f"REPRISE_IMAGE={IMAGE}" in environ
    source = folder / "source"
    assert f"COMPOSE_FILE={source / 'compose.yaml'}:{source / 'compose.gpu.yaml'}:{folder / 'compose.json'}" in environ
    assert f"{source}:/project:ro" in (folder / "compose.json").read_text()
    assert {f"--env=REPRISE_WATCHED_RUN={run.name}", "--env=CUDA_VISIBLE_DEVICES=1"} <= set(words)
    assert {"--env=REPRISE_SETTING_WORKERS=2", "--env=REPRISE_SETTING_TOKEN"} <= set(words)
    assert not [word for word in words if "SEED" in word or "GONE" in word or "hush" in word]
    assert words[-3:] == ["train", "train", "--exp=digits"]
    assert place.settings(run) == [f"/project/runs/{run.name}/settings/{name}.toml" for name in ("base", "a")]


def test_a_sweep_without_its_image_is_an_error(tmp_path: Path) -> None:
    sweep, folder = make_sweep(tmp_path)
    with pytest.raises(ImageMissingError, match=f"the image of sweep {sweep.id} is not on this machine"):
        points_in_containers(sweep, folder, checkout=tmp_path / "project", engine=MemoryEngine())


def test_a_process_runs_in_the_frozen_source(tmp_path: Path, docker_log: Path) -> None:
    del docker_log
    sweep, folder = make_sweep(tmp_path)
    (tmp_path / "project" / "trainer" / "__main__.py").write_text("raise SystemExit(1)\n")
    output = run_point(
        points_in_processes(sweep, folder), tmp_path / "runs" / new_run_id(), tmp_path / "log", gpus="0,1"
    )
    assert '["train", "--exp=digits"]' in output
    assert f'"PYTHONPATH": "{folder / "source"}"' in output
    assert '"CUDA_VISIBLE_DEVICES": "0,1"' in output
    assert '"REPRISE_SETTING_WORKERS": "2"' in output
    assert '"REPRISE_SETTING_TOKEN": "hush"' in output
    assert "REPRISE_SETTING_SEED" not in output


def test_a_signal_reaches_a_process_that_this_sweep_started(tmp_path: Path) -> None:
    sweep, folder = make_sweep(tmp_path)
    place = points_in_processes(sweep, folder)
    (folder / "source" / "trainer" / "__main__.py").write_text("import time\ntime.sleep(60)\n")
    (tmp_path / "run").mkdir()
    with (tmp_path / "log").open("wb") as log:
        training = place.start([], tmp_path / "run", log=log.fileno(), gpus=None)
    place.attach(tmp_path / "run").send_signal(signal.SIGKILL)
    assert training.poll() is None
    training.send_signal(signal.SIGKILL)
    assert training.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("gpus", "jobs", "slots"),
    [
        ([], None, [None]),
        ([], 3, [None] * 3),
        (["0", "1"], None, ["0", "1"]),
        (["0", "1"], 1, ["0"]),
        (["0,1", "2,3"], 3, ["0,1", "2,3", "0,1"]),
    ],
)
def test_there_is_one_slot_per_parallel_point(gpus: list[str], jobs: int | None, slots: list[str | None]) -> None:
    assert slots_for(gpus, jobs=jobs) == slots
