"""The lock names no place, and `scripts/lock --check` says so, offline."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import lock
import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
TORCH: Final = "https://torch.example/whl/cpu"
HASH: Final = "sha256:" + "0" * 64

MADE: Final = f"""version = 1

[[package]]
name = "a"
version = "1"
source = {{ registry = "https://mirror.example/simple" }}
sdist = {{ url = "https://mirror.example/x/y/a-1.tar.gz", hash = "{HASH}", size = 1 }}
wheels = [
    {{ path = "/srv/wheels/a-1-py3-none-any.whl", hash = "{HASH}" }},
]

[[package]]
name = "torch"
version = "2+cpu"
source = {{ registry = "http://127.0.0.1:1" }}
wheels = [
    {{ path = "/srv/wheels/torch-2+cpu-cp311-cp311-linux_x86_64.whl", hash = "{HASH}" }},
]
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what the lock is made of, for a test to spoil."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (ROOT / ".reprise").mkdir(exist_ok=True)
    (tmp_path / ".reprise").symlink_to(ROOT / ".reprise")
    return tmp_path


def spoil(file: Path, old: str, new: str) -> None:
    """Replace the first `old`, which must be there."""
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def checked(home: Path) -> subprocess.CompletedProcess[str]:
    """What `scripts/lock --check` does in `home`."""
    return subprocess.run([home / "scripts" / "lock", "--check"], capture_output=True, text=True, check=False)


def test_a_lock_made_anywhere_becomes_the_same_lock() -> None:
    """Only a file's name is kept of its address; PyTorch's own files keep their index."""
    text = lock.neutral(MADE, torch={"http://127.0.0.1:1": TORCH, TORCH: TORCH})
    assert 'source = { registry = "https://index.invalid/simple" }' in text
    assert 'url = "https://files.invalid/a-1.tar.gz"' in text
    assert 'url = "https://files.invalid/a-1-py3-none-any.whl"' in text
    assert f'source = {{ registry = "{TORCH}" }}' in text
    assert f'url = "{TORCH}/torch-2%2Bcpu-cp311-cp311-linux_x86_64.whl"' in text
    assert not lock.places(text, TORCH)
    assert not lock.hashes(text)


def test_a_neutral_lock_stays_as_it_is() -> None:
    """Making it neutral again changes no byte."""
    text = lock.neutral(MADE, torch={"http://127.0.0.1:1": TORCH, TORCH: TORCH})
    assert lock.neutral(text, torch={TORCH: TORCH}) == text


def test_the_committed_lock_is_current_neutral_and_complete(copy: Path) -> None:
    """A copy of the repository's own lock passes its own check."""
    done = checked(copy)
    assert done.stdout.startswith("uv.lock: current, neutral, complete: ")
    assert done.returncode == 0


def test_an_address_in_the_lock_is_refused_by_line(copy: Path) -> None:
    """A plain `uv sync` writes the addresses of its index into the lock; the check keeps that out."""
    spoil(copy / "uv.lock", "https://files.invalid/", "https://mirror.example/a/")
    done = checked(copy)
    assert done.returncode == 1
    assert "uv.lock:" in done.stderr
    assert "found https://mirror.example/a/" in done.stderr
    assert done.stderr.endswith("lock: run scripts/lock and commit uv.lock\n")


def test_a_file_without_a_hash_is_refused_by_name(copy: Path) -> None:
    """What has no sha256 could be anything."""
    spoil(copy / "uv.lock", 'hash = "sha256:', 'hash = "md5:')
    done = checked(copy)
    assert done.returncode == 1
    assert "found no sha256 for https://files.invalid/" in done.stderr


def test_a_requirement_that_the_lock_does_not_know_is_refused(copy: Path) -> None:
    """An edit of pyproject.toml without `scripts/lock` does not pass."""
    spoil(copy / "pyproject.toml", '"rich>=14.2"', '"rich>=14.3"')
    done = checked(copy)
    assert done.returncode == 1
    assert "uv.lock is not what pyproject.toml asks for" in done.stderr


def test_a_lock_that_is_no_toml_is_one_line(copy: Path) -> None:
    """Conflict markers, for one: no traceback."""
    spoil(copy / "uv.lock", "version = 1", "<<<<<<< ours")
    done = checked(copy)
    assert done.returncode == 1
    assert done.stderr.startswith("uv.lock: cannot be read: ")
    assert "Traceback" not in done.stderr


def test_no_other_file_names_a_registry() -> None:
    """The one address in the repository is that of PyTorch's own index, in pyproject.toml and the lock."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    hosts = tuple(
        "".join(parts)
        for parts in (("py", "pi.org"), ("pythonhosted", ".org"), ("deb.debian", ".org"), ("npmjs", ".org"))
    )
    named = {
        name
        for name in listed.split("\0")
        if name and (ROOT / name).is_file()
        for host in (*hosts, "download.pytorch" + ".org")
        if host.encode() in (ROOT / name).read_bytes()
    }
    assert named == {"pyproject.toml", "uv.lock"}
    assert not any(host in (ROOT / name).read_text(encoding="utf-8") for name in named for host in hosts)
