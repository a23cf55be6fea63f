"""Commands on the host do not follow links, and do not block on pipes, that a container creates in `runs/`."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.comparison.test_retest import a_retest
from tests.runs.runs import finish_run, start_run
from tests.sweeps.test_folder import make_sweep
from trainer.base.errors import RepriseError, UnsafePathError
from trainer.comparison.retest import save_retest
from trainer.runs.image_claim import OBSERVED_IMAGE
from trainer.runs.list import local_run
from trainer.runs.open_run import OpenRun, close_killed, is_alive, open_run
from trainer.runs.publish import publish_run
from trainer.runs.pull import pull_run
from trainer.runs.resume import archive_observed_image
from trainer.stores.memory import MemoryStore
from trainer.sweeps.folder import lock_sweep, log_of, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Verb = Callable[[OpenRun, MemoryStore], object]
FOLDERS = ("attempts", "attempts/1", "attempts/1/checkpoints", "attempts/2", "retests")
FILES = (
    *("attempts/1/record.json", "attempts/1/claim.json", "attempts/1/published.json", "attempts/1/metrics.jsonl"),
    *("attempts/1/checkpoints/last.ckpt", "attempts/1/.reserve", "source.tar.gz", OBSERVED_IMAGE),
)
VERBS: dict[str, Verb] = {
    "keep a retest": lambda run, _: save_retest(run.folder.parents[1], a_retest(), evidence=b"x"),
    "publish": lambda run, store: publish_run(run.folder.parents[1], store),
    "pull": lambda run, store: pull_run(run.record.run, store, runs=run.folder.parents[2]),
    "open": lambda run, _: open_run(
        run.folder.parents[1], ingredients=run.record.ingredients, circumstances=run.record.circumstances
    ),
    "close": lambda run, _: close_killed(run.folder, host=run.record.circumstances.host.name),
    "list": lambda run, _: local_run(run.folder.parents[2], run.record.run),
    "set aside": lambda run, _: archive_observed_image(run.folder.parents[1]),
}


def plant(path: Path, target: Path | None) -> None:
    """Replace a file with a link or a pipe; the file is kept under another name."""
    if os.path.lexists(path):
        path.rename(path.with_name(f"{path.name}.moved"))
    if target is None:
        os.mkfifo(path)
    else:
        path.symlink_to(target)


@pytest.fixture(scope="module")
def existing_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[OpenRun, OpenRun, MemoryStore]:
    """Return a finished run, a run whose process was killed, and a store with the finished run."""
    over, killed, store = (
        finish_run(tmp_path_factory.mktemp("over") / "runs"),
        start_run(tmp_path_factory.mktemp("killed") / "runs"),
        MemoryStore(),
    )
    killed.release()
    (killed.folder / "checkpoints").mkdir()
    publish_run(over.folder.parents[1], store)
    (over.folder / "published.json").unlink()
    return over, killed, store


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("planted", [*FOLDERS, *FILES])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_no_command_follows_a_planted_link(
    tmp_path: Path, home: Path, existing_runs: tuple[OpenRun, OpenRun, MemoryStore], planted: str, verb: str, kind: str
) -> None:
    """The fixture `home` checks that the victim's files are unchanged. A command may raise only errors of Reprise."""
    whole = existing_runs[verb == "close"]
    assert isinstance(whole, OpenRun)
    folder = tmp_path / "runs" / whole.record.run
    shutil.copytree(whole.folder.parents[1], folder)
    (folder / OBSERVED_IMAGE).write_text("{}")
    target = home if planted in FOLDERS else home / ".ssh/authorized_keys"
    plant(folder / planted, target if kind == "link" else None)
    store = existing_runs[2] if verb == "pull" else MemoryStore()
    with suppress(RepriseError):
        VERBS[verb](replace(whole, folder=folder / "attempts/1", lifeline=None), store)


@pytest.mark.parametrize("planted", ["attempts", "retests"])
def test_a_link_in_place_of_an_output_folder_is_named(tmp_path: Path, home: Path, planted: str) -> None:
    run = finish_run(tmp_path / "runs")
    plant(run.folder.parents[1] / planted, home)
    with pytest.raises(UnsafePathError, match=f"{planted} is a symbolic link to '.*home', of uid"):
        VERBS["open" if planted == "attempts" else "keep a retest"](run, MemoryStore())


def test_a_pulled_attempt_does_not_replace_a_link(tmp_path: Path, home: Path) -> None:
    run, store = finish_run(tmp_path / "runs"), MemoryStore()
    publish_run(run.folder.parents[1], store)
    plant(run.folder, home)
    with pytest.raises(UnsafePathError, match="1 is a symbolic link"):
        pull_run(run.record.run, store, runs=tmp_path / "runs")


def test_a_claim_that_is_a_pipe_does_not_block(tmp_path: Path) -> None:
    run = start_run(tmp_path / "runs")
    plant(run.folder / "claim.json", None)
    assert not is_alive(run.folder)


@pytest.mark.parametrize("planted", ["sweeps", "sweeps/{id}", "sweeps/{id}/logs"])
def test_a_sweep_is_not_written_through_a_link(tmp_path: Path, home: Path, planted: str) -> None:
    runs = tmp_path / "runs"
    for folder in (runs, tmp_path / "project"):
        folder.mkdir()
    (tmp_path / "project" / "code.py").write_text("x = 1\n")
    if planted == "sweeps":
        plant(runs / planted, home)
        with pytest.raises(UnsafePathError, match="is a symbolic link"):
            make_sweep(runs)
        return
    sweep, folder = make_sweep(runs)
    plant(runs / planted.format(id=sweep.id), home)
    with pytest.raises(UnsafePathError, match="is a symbolic link"), lock_sweep(folder), log_of(folder, 0):
        save(sweep, folder)
