"""Links that code in a container creates in `runs/` are not followed, even by commands that root runs."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.comparison.test_retest import a_retest
from tests.records import circumstances
from tests.runs.runs import finish_run
from tests.security.outside import state
from trainer.base.errors import RepriseError, UnsafePathError
from trainer.cli.configuration import give_to_container_user
from trainer.cli.sweep.scheduler import RunningPoint
from trainer.comparison.retest import local_retests, save_retest
from trainer.environments.dotenv import write_block
from trainer.launch.process import ProcessCommand
from trainer.runs.image_claim import ObservedImage, claim_image, write_observed_image
from trainer.runs.list import list_runs
from trainer.runs.open_run import OpenRun, close_killed, files_of, is_alive, open_run
from trainer.runs.publish import publish_run
from trainer.runs.pull import pull_run
from trainer.runs.record import Outcome, RunStatus
from trainer.runs.resume import archive_observed_image, require_resumable, require_source
from trainer.runs.run import abandon, attempts, record_of
from trainer.runs.verify import require_intact
from trainer.stores.memory import MemoryStore
from trainer.sweeps.folder import load, lock_sweep, log_of, sweep_ids

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OTHER = 1000


class Scene:
    """A completed and published run, with its folder and its store."""

    def __init__(self, runs: Path) -> None:
        self.run = finish_run(runs)
        self.runs, self.folder, self.attempt = runs, self.run.folder.parents[1], self.run.folder
        self.store = MemoryStore()
        publish_run(self.folder, self.store)
        write_observed_image(self.folder, ObservedImage(container="c", reference="r"))
        write_block(runs.parent / ".env", {"REPRISE_UID": str(OTHER), "REPRISE_GID": str(OTHER)})
        self.record = self.run.record

    def update(self) -> None:
        OpenRun(folder=self.attempt, record=self.record).update(outcome=Outcome(status=RunStatus.RUNNING))

    def close(self) -> None:
        OpenRun(folder=self.attempt, record=self.record).close(Outcome(status=RunStatus.COMPLETED))


VERBS: dict[str, Callable[[Scene], object]] = {
    "attempts": lambda scene: attempts(scene.folder),
    "record_of": lambda scene: record_of(scene.folder),
    "files_of": lambda scene: files_of(scene.attempt),
    "is_alive": lambda scene: is_alive(scene.attempt),
    "close_dead": lambda scene: close_killed(scene.attempt, host="h"),
    "update": Scene.update,
    "close": Scene.close,
    "open_run": lambda scene: open_run(
        scene.folder, ingredients=scene.record.ingredients, circumstances=circumstances()
    ),
    "list_runs": lambda scene: list_runs(scene.runs),
    "publish_run": lambda scene: publish_run(scene.folder, MemoryStore()),
    "pull_run": lambda scene: pull_run(scene.record.run, scene.store, runs=scene.runs),
    "require_whole": lambda scene: require_intact(scene.attempt, scene.record),
    "require_resumable": lambda scene: require_resumable(scene.folder, host="h"),
    "require_source": lambda scene: require_source(scene.folder, scene.record.ingredients.source),
    "require_source again": lambda scene: require_source(
        scene.folder, scene.record.ingredients.source, unpack_again=True
    ),
    "move_seen_image": lambda scene: archive_observed_image(scene.folder),
    "write_seen": lambda scene: write_observed_image(scene.folder, ObservedImage(container="c", reference="r")),
    "claim": lambda scene: claim_image({}, run=scene.folder),
    "save_retest": lambda scene: save_retest(scene.folder, a_retest(), evidence=b"e"),
    "local_retests": lambda scene: local_retests(scene.folder),
    "give_to_container_user": lambda scene: give_to_container_user(scene.folder, checkout=scene.runs.parent),
    "withdraw": lambda scene: OpenRun(folder=scene.attempt, record=scene.record).withdraw(),
    "abandon": lambda scene: abandon(scene.folder),
}
"""Operations on a run; the operations that remove it are last."""
PLANTED = {
    "a link": ("", "attempts", "attempts/1", "attempts/1/record.json", "attempts/1/claim.json", "attempts/1/published.json",
        "attempts/1/checkpoints", "attempts/1/metrics.jsonl", "attempts/1/.reserve", "attempts/2", "source", "source.tar.gz", "retests",
        "image-seen.json"),
    "a pipe": ("attempts/1/record.json", "attempts/1/claim.json", "attempts/1/published.json", "attempts/1/metrics.jsonl", "source.tar.gz",
        "retests", "image-seen.json"),
}  # fmt: skip


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "runs")


@pytest.mark.parametrize(("kind", "planted"), [(kind, path) for kind, paths in PLANTED.items() for path in paths])
def test_a_planted_link_or_pipe_in_a_run_is_neither_followed_nor_waited_for(
    scene: Scene, home: Path, kind: str, planted: str
) -> None:
    aside, path = home.with_name("aside"), scene.folder / planted
    if path.exists():
        path.rename(aside)
    else:
        aside.mkdir()
    path.symlink_to(aside) if kind == "a link" else os.mkfifo(path)
    before = state(aside)
    for name, verb in VERBS.items():
        try:
            verb(scene)
        except RepriseError as fault:
            assert fault.hint, name  # noqa: PT017 - the operation may succeed or raise an error
        assert state(aside) == before, name


@pytest.mark.parametrize("planted", ["", "attempts", "attempts/1", "attempts/1/record.json"])
def test_a_record_behind_a_link_is_not_read(scene: Scene, home: Path, planted: str) -> None:
    """Otherwise the command could disclose a private file of its user."""
    (scene.folder / planted).rename(home.with_name("aside"))
    (scene.folder / planted).symlink_to(home.with_name("aside"))
    with pytest.raises(UnsafePathError, match="is a symbolic link"):
        record_of(scene.folder)
    assert not [row for row in list_runs(scene.runs) if row.record]


def test_root_writes_no_retest_through_a_link_and_chowns_nothing(scene: Scene, home: Path) -> None:
    """The link stands for one that a container creates before root runs `reprise reproduce`."""
    (scene.folder / "retests").symlink_to(home)
    with pytest.raises(UnsafePathError, match=r"retests is a symbolic link to '.*home', of uid .*; expected a folder"):
        save_retest(scene.folder, a_retest(), evidence=b"e")


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user, which root alone can")
def test_files_that_root_adds_to_another_users_run_belong_to_that_user(scene: Scene) -> None:
    os.chown(scene.folder, OTHER, OTHER)
    path = save_retest(scene.folder, a_retest(), evidence=b"e")
    assert {path.stat().st_uid, path.parent.stat().st_uid} == {OTHER}


@pytest.mark.parametrize(
    "planted", ["sweeps", "sweeps/{id}", "sweeps/{id}/lock", "sweeps/{id}/logs", "sweeps/{id}/logs/1.txt"]
)
def test_a_sweep_writes_through_no_link(tmp_path: Path, home: Path, planted: str) -> None:
    name = "20261128t000000-aaaaaa"
    folder = tmp_path / "runs/sweeps" / name
    link = tmp_path / "runs" / planted.format(id=name)
    link.parent.mkdir(parents=True)
    link.symlink_to(home / ".ssh/authorized_keys" if planted.endswith(("lock", "txt")) else home)
    with pytest.raises(RepriseError, match=r"is a symbolic link|does not exist|No such file"):
        use_sweep(folder)
    assert link.is_symlink()


def test_a_sweep_prints_nothing_of_a_links_target(tmp_path: Path, home: Path) -> None:
    """A container may replace the log of its point while a sweep of root forwards the log."""
    log = tmp_path / "runs/sweeps/20261128t000000-aaaaaa/logs/1.txt"
    log.parent.mkdir(parents=True)
    point = RunningPoint(number=0, run="r", log=log, training=ProcessCommand(None), slot=None)
    log.write_text("a line\n")
    assert list(point.lines()) == ["a line"]
    log.unlink()
    log.symlink_to(home / ".ssh/authorized_keys")
    point.printed = 0
    with pytest.raises(UnsafePathError, match=r"1\.txt is a symbolic link"):
        list(point.lines())


def use_sweep(folder: Path) -> None:
    sweep_ids(folder.parents[1])
    with lock_sweep(folder), log_of(folder, 0) as log:
        os.write(log, b"line")
    load(folder)


def test_removing_a_run_keeps_the_targets_of_its_links(scene: Scene, home: Path) -> None:
    (scene.attempt / "record.json").unlink()
    (scene.folder / "link").symlink_to(home)
    (scene.folder / "source" / "link").symlink_to(home / ".ssh")
    abandon(scene.folder)
    assert not scene.folder.exists()


def test_reproduce_reports_a_linked_run_by_its_exit_code(scene: Scene, home: Path) -> None:
    aside = home.with_name("aside")
    scene.folder.rename(aside)
    scene.folder.symlink_to(aside)
    command = [sys.executable, "-m", "trainer", "runs", "show", scene.folder.name]
    done = subprocess.run(
        command, env={**os.environ, "REPRISE_RUNS": str(scene.runs)}, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.returncode != 0
