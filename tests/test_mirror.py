"""Packages are installed by hash from the index that pip is configured for: a company's mirror, or a folder of wheels."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
SMALL: Final = ("rfc8785", "tomli-w")
PART: Final = (
    "--no-default-groups",
    *(f"--prune={name}" for name in ("boto3", "docker", "pydantic", "pydantic-settings", "rich", "securesystemslib")),
)
BY_HASH: Final = ("--no-config", "--no-build", "--require-hashes")
NOWHERE: Final = "http://127.0.0.1:9"
MODULES: Final = "import rfc8785, tomli_w"

pytestmark = pytest.mark.index


class Mirror(SimpleHTTPRequestHandler):
    asked: Final[list[str]] = []

    def log_message(self, format: str, *words: Any) -> None:  # noqa: A002 - the base class names it so
        self.asked.append(format % words)


@pytest.fixture(scope="module")
def requirements() -> str:
    """Return the lines of the lock for a few small packages, in the form that docs/how-to/mirror.md uses."""
    export = ["export", "--quiet", "--frozen", "--no-emit-project", "--no-header", "--no-annotate", *PART]
    return subprocess.run(
        [ROOT / "scripts" / "machine" / "uv", *export], capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheels of the small packages, filled as docs/how-to/mirror.md describes."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    subprocess.run([ROOT / "scripts" / "machine" / "wheelhouse", folder, *PART], check=True, capture_output=True)
    return folder


@pytest.fixture
def mirror(wheelhouse: Path, tmp_path: Path) -> Iterator[str]:
    """Yield the address of a package index on the loopback device that has only the wheels of the small packages."""
    for name in SMALL:
        (wheel,) = wheelhouse.glob(f"{name.replace('-', '_')}-*.whl")
        page = tmp_path / "mirror" / "simple" / name / "index.html"
        page.parent.mkdir(parents=True)
        shutil.copyfile(wheel, page.parent / wheel.name)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        page.write_text(f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>', encoding="utf-8")
    handler = functools.partial(Mirror, directory=str(tmp_path / "mirror"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()


def install(requirements: str, home: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Install by hash into a new environment without a cache."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    expected = home / "requirements.txt"
    expected.write_text(requirements, encoding="utf-8")
    environment = {**bare, "PIP_CONFIG_FILE": os.devnull, "UV_CACHE_DIR": str(home / "cache"), **settings}
    run = functools.partial(subprocess.run, env=environment, capture_output=True, text=True, check=False)
    run([ROOT / "scripts" / "machine" / "uv", "venv", "--python", sys.executable, home / "venv"])
    sync = ["pip", "sync", *BY_HASH, "--python", home / "venv" / "bin" / "python", expected]
    return run([ROOT / "scripts" / "machine" / "uv", *sync])


def test_a_company_mirror_serves_the_lock(requirements: str, mirror: str, tmp_path: Path) -> None:
    done = install(requirements, tmp_path, PIP_INDEX_URL=mirror)
    assert done.returncode == 0, done.stderr
    subprocess.run([tmp_path / "venv" / "bin" / "python", "-c", MODULES], check=True)
    assert all(any(f"/simple/{name}/" in line for line in Mirror.asked) for name in SMALL)


def test_a_folder_of_wheels_needs_no_index(requirements: str, wheelhouse: Path, tmp_path: Path) -> None:
    done = install(requirements, tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheelhouse), ALL_PROXY=NOWHERE)
    assert done.returncode == 0, done.stderr
    subprocess.run([tmp_path / "venv" / "bin" / "python", "-c", MODULES], check=True)


def test_settings_in_pips_configuration_file_are_used(requirements: str, wheelhouse: Path, tmp_path: Path) -> None:
    settings = tmp_path / "pip.conf"
    settings.write_text(f"[global]\nno-index = true\nfind-links = {wheelhouse}\n", encoding="utf-8")
    done = install(requirements, tmp_path, PIP_CONFIG_FILE=str(settings), ALL_PROXY=NOWHERE)
    assert done.returncode == 0, done.stderr


def test_an_altered_wheel_is_rejected(requirements: str, wheelhouse: Path, tmp_path: Path) -> None:
    altered = tmp_path / "altered"
    shutil.copytree(wheelhouse, altered)
    wheel = next(altered.glob("tomli_w-*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    done = install(requirements, tmp_path, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(altered))
    assert done.returncode != 0
    assert "Hash mismatch for `tomli-w" in done.stderr


def test_plain_uv_sync_does_not_change_the_lock_without_an_index(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "uv.lock", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "trainer", tmp_path / "trainer", ignore=shutil.ignore_patterns("__pycache__"))
    before = (tmp_path / "uv.lock").read_bytes()
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    lonely = {"UV_CACHE_DIR": str(tmp_path / "cache"), "ALL_PROXY": NOWHERE, "UV_HTTP_RETRIES": "0"}
    expected = {
        option: subprocess.run(
            [
                ROOT / "scripts" / "machine" / "uv",
                "sync",
                *option.split(),
                "--directory",
                tmp_path,
                "--python",
                sys.executable,
            ],
            env={**bare, "PIP_CONFIG_FILE": os.devnull, **lonely},
            capture_output=True,
            text=True,
            check=False,
        ).stderr
        for option in ("", "--frozen")
    }
    assert "Failed to fetch: https://" in expected[""]
    assert "https://files.invalid/" in expected["--frozen"]
    assert (tmp_path / "uv.lock").read_bytes() == before


def test_this_environment_was_created_as_documented() -> None:
    """`scripts/setup --venv` runs `scripts/machine/venv dev`, which installs the lock."""
    done = subprocess.run([ROOT / "scripts" / "machine" / "venv", "dev"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (ROOT / ".venv" / "uv.lock").read_bytes() == (ROOT / "uv.lock").read_bytes()
