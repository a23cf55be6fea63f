"""Checkpoints are complete or absent."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
import torch

from trainer.base.errors import DigestMismatchError, DiskFullError, NotWritableError
from trainer.runs.checkpoint_pointer import Checkpoint, Saved
from trainer.training.atomic_write import replacing
from trainer.training.resuming.checkpoint_file import WholeCheckpointIO
from trainer.training.resuming.checkpoints import read_saved, served

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch
DIGEST = "sha256:" + "0" * 64


def fail_halfway(path: Path, number: int) -> None:
    with replacing(path) as file:
        file.write(b"half")
        raise OSError(number, "the reason")


def test_a_checkpoint_is_read_back(tmp_path: Path) -> None:
    disk = WholeCheckpointIO()
    disk.save_checkpoint({"weights": torch.arange(3)}, tmp_path / "a.ckpt")
    assert torch.equal(disk.load_checkpoint(tmp_path / "a.ckpt")["weights"], torch.arange(3))
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, DiskFullError), (errno.EROFS, NotWritableError)])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, number: int, kind: type[Exception]) -> None:
    path = tmp_path / "latest.json"
    path.write_bytes(b"old")
    with pytest.raises(kind, match=r"latest\.json"):
        fail_halfway(path, number)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_best_checkpoint_is_preferred_to_the_last(tmp_path: Path) -> None:
    last = Saved(path="last.ckpt", sha256=DIGEST, step=1, epoch=0, batch=1)
    (tmp_path / "latest.json").write_bytes(last.to_json())
    assert served(tmp_path) == last
    (tmp_path / "best.json").write_text(Checkpoint(path="best.ckpt", sha256=DIGEST, step=1).model_dump_json())
    assert served(tmp_path).path == "best.ckpt"


def test_an_altered_checkpoint_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"other")
    with pytest.raises(DigestMismatchError, match=r"a\.ckpt"):
        read_saved(tmp_path, Checkpoint(path="a.ckpt", sha256=DIGEST, step=1))


def test_a_partial_file_has_a_temporary_name(tmp_path: Path) -> None:
    with replacing(tmp_path / "a"):
        assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
