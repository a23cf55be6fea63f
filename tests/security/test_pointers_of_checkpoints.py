"""With a manipulated pointer to a checkpoint, resuming changes nothing outside the new attempt."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from trainer.base.digest import digest_of_bytes
from trainer.base.errors import DigestMismatchError, UnsafePathError
from trainer.runs.checkpoint_pointer import Checkpoint, Saved, restore_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

BODY = b"weights" * 1000


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run with a valid checkpoint in its first attempt, and a second attempt that has just started."""
    first, second = (tmp_path / "runs/20261128t000000-aaaaaa/attempts" / number for number in "12")
    (first / "checkpoints").mkdir(parents=True)
    (first / "checkpoints/a.ckpt").write_bytes(BODY)
    (first / "metrics.jsonl").write_bytes(b"one\ntwo\nthree\n")
    second.mkdir()
    (second / "record.json").write_text("mine")
    return first.parents[1]


def write_pointer(run: Path, **otherwise: object) -> None:
    saved = Saved(path="a.ckpt", sha256=digest_of_bytes(BODY), step=3, epoch=1, batch=0, logs={"metrics.jsonl": 8})
    text = json.dumps(json.loads(saved.to_json()) | otherwise)
    (run / "attempts/1/checkpoints/latest.json").write_text(text)


def resume(run: Path) -> tuple[Saved | None, list[str]]:
    lines: list[str] = []
    return restore_checkpoint(run / "attempts/2", say=lines.append), lines


def test_a_valid_pointer_is_resumed_from(run: Path) -> None:
    best = b"best"
    (run / "attempts/1/checkpoints/b.ckpt").write_bytes(best)
    write_pointer(run, best=Checkpoint(path="b.ckpt", sha256=digest_of_bytes(best), step=2).model_dump())
    saved, message = resume(run)
    assert (saved and saved.step, message) == (3, [])
    second = run / "attempts/2"
    assert (second / "metrics.jsonl").read_bytes() == b"one\ntwo\n"
    assert (second / "checkpoints/a.ckpt").read_bytes() == BODY
    assert Checkpoint.model_validate_json((second / "checkpoints/best.json").read_text()).path == "b.ckpt"


@pytest.mark.parametrize("log", ["../../../precious.txt", "../../../../precious.txt", "{absolute}", "a/../../x", ""])
def test_a_log_path_outside_the_attempt_raises_and_truncates_nothing(run: Path, log: str) -> None:
    precious = run.parents[1] / "precious.txt"
    precious.write_text("years of work")
    write_pointer(run, logs={log.format(absolute=precious): 3})
    before = all_bytes(run.parents[1])
    with pytest.raises(DigestMismatchError, match=r"latest\.json is not a pointer written by a training run: log "):
        resume(run)
    assert all_bytes(run.parents[1]) == before


@pytest.mark.parametrize("log", ["record.json", "claim.json", "checkpoints/latest.json", "checkpoints/a.ckpt"])
def test_a_log_path_of_another_file_raises(run: Path, log: str) -> None:
    write_pointer(run, logs={log: 3})
    with pytest.raises(DigestMismatchError, match="the name of another file"):
        resume(run)
    assert (run / "attempts/2/record.json").read_text() == "mine"


def test_a_pointer_with_a_negative_log_size_is_skipped(run: Path) -> None:
    write_pointer(run, logs={"metrics.jsonl": -1})
    saved, message = resume(run)
    assert saved is None
    assert "logs.metrics.jsonl" in message[0]


@pytest.mark.parametrize("path", ["../../../../home/thesis.txt", "/etc/passwd", "checkpoints/a.ckpt"])
def test_a_checkpoint_outside_its_folder_raises(run: Path, home: Path, path: str) -> None:
    write_pointer(run, path=path, sha256=digest_of_bytes((home / "thesis.txt").read_bytes()))
    with pytest.raises(DigestMismatchError, match="checkpoint "):
        resume(run)
    assert not (run / "attempts/2/checkpoints").exists()


@pytest.mark.parametrize(
    "planted",
    ["attempts/1", "attempts/1/checkpoints", "attempts/1/checkpoints/a.ckpt", "attempts/1/metrics.jsonl", "attempts/2"],
)
def test_a_link_in_an_attempt_is_not_followed(run: Path, home: Path, planted: str) -> None:
    write_pointer(run)
    aside = home.with_name("aside")
    (run / planted).rename(aside)
    (run / planted).symlink_to(aside)
    before = all_bytes(aside)
    with pytest.raises(UnsafePathError, match="is a symbolic link to"):
        resume(run)
    assert all_bytes(aside) == before


@pytest.mark.parametrize("name", ["latest.json", "a.ckpt"])
def test_a_pipe_in_place_of_a_checkpoint_does_not_block(run: Path, name: str) -> None:
    write_pointer(run)
    (run / "attempts/1/checkpoints" / name).unlink()
    os.mkfifo(run / "attempts/1/checkpoints" / name)
    with pytest.raises(UnsafePathError, match="is a named pipe"):
        resume(run)


def test_a_link_in_the_new_attempt_is_not_written_through(run: Path, home: Path) -> None:
    write_pointer(run)
    link = run / "attempts/2/metrics.jsonl"
    link.symlink_to(home / "thesis.txt")
    resume(run)
    assert not link.is_symlink()
    assert link.read_bytes() == b"one\ntwo\n"


def all_bytes(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    return {str(file): file.read_bytes() for file in files}
