from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import UnsafePathError
from trainer.base.run_files import folder_of
from trainer.training.logs.log_file import LogFile

if TYPE_CHECKING:
    from pathlib import Path

RUN = "20260102t030405-abcdef"
FILES = {
    "attempts": f"{RUN}/attempts/1/checkpoints/latest.json",
    "attempts/1": f"{RUN}/attempts/1/checkpoints/latest.json",
    "attempts/1/checkpoints": f"{RUN}/attempts/1/checkpoints/latest.json",
    ".": f"{RUN}/source.tar.gz",
    "../sweeps": "sweeps/20260102t030405-fedcba/source.tar.gz",
    "../sweeps/20260102t030405-fedcba": "sweeps/20260102t030405-fedcba/source.tar.gz",
}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    runs = tmp_path / "runs"
    for path in FILES.values():
        (runs / path).parent.mkdir(parents=True, exist_ok=True)
        (runs / path).write_bytes(b"theirs")
    return runs


@pytest.mark.parametrize("path", sorted(set(FILES.values())))
def test_a_folder_of_a_run_is_opened(runs: Path, path: str) -> None:
    with folder_of(runs / path) as folder:
        assert folder.read(path.rpartition("/")[2]) == b"theirs"


@pytest.mark.parametrize("link", FILES)
@pytest.mark.parametrize("make", [False, True])
def test_links_above_a_file_of_a_run_are_not_followed(runs: Path, link: str, make: bool) -> None:  # noqa: FBT001 - parametrized
    planted = (runs / RUN / link).parent.resolve() / (runs / RUN / link).name if link != "." else runs / RUN
    moved = planted.rename(runs.parent / "elsewhere")
    planted.symlink_to(moved)
    with pytest.raises(UnsafePathError), folder_of(runs / FILES[link], make=make):
        pass


def test_a_log_in_an_attempt_that_is_a_link_is_not_written(runs: Path) -> None:
    attempt = runs / RUN / "attempts/1"
    attempt.symlink_to(attempt.rename(runs.parent / "elsewhere"))
    with pytest.raises(UnsafePathError):
        LogFile(attempt / "trace.jsonl").append(b"line\n")
    assert not (runs.parent / "elsewhere/trace.jsonl").exists()


def test_a_log_line_is_appended_at_once(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "trace.jsonl")
    log.append(b"1\n")
    assert log.path.read_bytes() == b"1\n"
    (tmp_path / "trace.jsonl").write_bytes(b"1\n2\n")
    log.append(b"3\n")
    assert log.path.read_bytes() == b"1\n2\n3\n"
