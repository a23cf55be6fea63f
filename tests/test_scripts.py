"""The developer's scripts: their output, and that they change nothing if there is nothing to change."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
SCRIPTS: Final = ROOT / "scripts"
SHELL: Final = sorted(  # Python adds __pycache__ to the folder
    path
    for path in SCRIPTS.rglob("*")
    if path.is_file() and path.read_bytes().startswith((b"#!/bin/sh", b"#!/usr/bin/env bash"))
)
DIGEST: Final = "sha256:" + "0" * 64


def run_script(name: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / name), *words]
    no_input = subprocess.DEVNULL
    return subprocess.run(command, env=os.environ | env, stdin=no_input, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_a_shell_script_is_executable_and_can_be_parsed(path: Path) -> None:
    shell = "bash" if b"bash" in path.read_bytes().splitlines()[0] else "sh"
    assert os.access(path, os.X_OK)
    assert subprocess.run([shell, "-n", path], capture_output=True, text=True, check=False).stderr == ""


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck: apt-get install shellcheck")
def test_shellcheck_finds_nothing() -> None:
    found = subprocess.run(["shellcheck", *SHELL], capture_output=True, text=True, check=False)
    assert found.stdout == ""


@pytest.mark.parametrize("path", [path for path in SHELL if path.name != "reprise"], ids=lambda path: path.name)
@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_is_printed_and_nothing_is_started(tmp_path: Path, path: Path, word: str) -> None:
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    (tmp_path / "trainer").symlink_to(ROOT / "trainer")
    (tmp_path / "scripts" / "reprise").write_text('#!/bin/sh\necho "reprise $*"\n', encoding="utf-8")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("docker", "apt-get", "git", "uv", "pip", "curl"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    before = sorted(each.relative_to(tmp_path) for each in tmp_path.rglob("*"))
    environ = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(tmp_path / path.relative_to(ROOT)), word]
    done = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 140
    assert sorted(each.relative_to(tmp_path) for each in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "words", [("engine",), ("engine", "reset"), ("engine", "stop", "--yes"), ("debian",), ("debian", "install")]
)
def test_an_unknown_argument_prints_the_usage(words: tuple[str, ...]) -> None:
    result = run_script(f"machine/{words[0]}", *words[1:])
    assert result.returncode == 2
    assert f"scripts/machine/{words[0]}" in result.stderr
    assert result.stdout == ""


def test_nothing_is_installed_without_consent() -> None:
    result = run_script("machine/debian", "install", "no-such-package")
    assert result.returncode in {2, 70}
    assert "no-such-package" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", ["start", "status"])
def test_an_unreachable_remote_engine_is_named(verb: str) -> None:
    result = run_script("machine/engine", verb, DOCKER_HOST="unix:///nowhere.sock")
    assert result.returncode == 61
    assert "unix:///nowhere.sock" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_ctrl_c_during_docker_is_not_reported_as_a_missing_plugin(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\n[ "$1" = version ] && echo 26 && exit\ntrap : INT\nkill -INT 0\nexit 1\n')
    docker.chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [str(SCRIPTS / "machine" / "engine"), "ensure"]
    result = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, start_new_session=True)
    assert (result.returncode, result.stderr) == (130, "")


@pytest.mark.parametrize("script", ["train", "reprise", "setup", "machine/venv"])
def test_a_checkout_path_with_a_colon_is_rejected_before_anything_is_created(tmp_path: Path, script: str) -> None:
    checkout = tmp_path / "a:b"
    shutil.copytree(SCRIPTS, checkout / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    command = [str(checkout / "scripts" / script), "host"]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("venv: the path of this checkout has a colon, which separates paths")
    assert sorted(path.name for path in checkout.iterdir()) == ["scripts"]


@pytest.mark.parametrize("script", ["machine/uv", "machine/wheelhouse"])
def test_scripts_that_need_uv_reject_a_checkout_path_with_a_colon_too(tmp_path: Path, script: str) -> None:
    checkout = tmp_path / "a:b"
    shutil.copytree(SCRIPTS, checkout / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SCRIPTS.parent / "uv.lock", checkout)
    command = [str(checkout / "scripts" / script), str(tmp_path / "folder")]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert result.returncode
    assert f"the path of this checkout has a colon, which separates paths in PYTHONPATH: {checkout}" in result.stderr


def test_stop_does_not_stop_an_engine_that_it_did_not_start(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(f"{os.getpid()}\n", encoding="utf-8")
    result = run_script("machine/engine", "stop", REPRISE_ENGINE_STATE=str(tmp_path))
    assert result.returncode == 0
    assert "nothing to stop" in result.stderr


def test_a_custom_base_is_used_unchanged() -> None:
    mirror = f"registry.example/debian:bookworm-slim@{DIGEST}"
    assert run_script("machine/base", REPRISE_BASE=mirror).stdout == f"{mirror}\n"


def test_a_base_without_a_digest_is_rejected() -> None:
    result = run_script("machine/base", REPRISE_BASE="debian:bookworm-slim")
    assert result.returncode == 2
    assert "debian:bookworm-slim" in result.stderr
    assert "sha256" in result.stderr


FAKES: Final = {  # a machine whose dockerd ends with ${END} at the first ${TIMES} starts, and then responds
    "id": "echo 0",
    "systemctl": "exit 1",
    "docker": '[ "$1" != version ] || { [ -e "$0.up" ] && echo 26.1.5; }',
    "dockerd": 'echo started >>"$0.starts"; echo "a last word" >&2\n'
    '[ "$(wc -l <"$0.starts")" -gt "$TIMES" ] || eval "$END"\n'
    'touch "${0%d}.up"; exec sleep 60',
}


@pytest.fixture
def fake_engine(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Yield variables with which `scripts/machine/engine` finds a fake machine, and stop its dockerd; tests also set TIMES and END."""
    for name, body in FAKES.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    yield {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REPRISE_ENGINE_STATE": str(tmp_path), "DOCKER_HOST": ""}
    with contextlib.suppress(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_dockerd_killed_during_its_start_is_started_again(fake_engine: dict[str, str]) -> None:
    """The cause of the signal is unknown, so the second start may succeed; the signal is named."""
    result = run_script("machine/engine", "start", TIMES="1", END="kill -9 $$", **fake_engine)
    assert result.returncode == 0, result.stderr
    assert "dockerd was killed by signal 9 while it started; retrying in 2 s" in result.stderr


def test_a_dockerd_that_exits_is_not_retried(fake_engine: dict[str, str]) -> None:
    result = run_script("machine/engine", "start", TIMES="9", END="exit 3", **fake_engine)
    assert result.returncode == 61
    assert "a last word" in result.stderr
    assert "dockerd ended with exit code 3" in result.stderr
    assert Path(fake_engine["REPRISE_ENGINE_STATE"], "dockerd.starts").read_text() == "started\n"


@pytest.mark.engine
def test_ensure_changes_nothing_if_an_engine_answers() -> None:
    result = run_script("machine/engine", "ensure")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.engine
def test_status_shows_the_versions_of_engine_and_client() -> None:
    format_ = "{{.Server.Version}}, {{.Client.Version}}"
    server, client = (
        subprocess.run(["docker", "version", "--format", format_], capture_output=True, text=True, check=True)
        .stdout.strip()
        .split(", ")
    )
    result = run_script("machine/engine", "status")
    assert result.stdout.startswith(f"engine {server}, ")
    assert f"; client {client}; " in result.stdout


@pytest.mark.engine
def test_the_base_can_be_built_on(tmp_path: Path) -> None:
    reference = run_script("machine/base").stdout.strip()
    assert "@sha256:" in reference
    assert run_script("machine/base").stdout.strip() == reference
    (tmp_path / "Dockerfile").write_text(f"FROM {reference}\nRUN grep -q bookworm /etc/os-release\n", encoding="utf-8")
    built = ["docker", "buildx", "build", "--no-cache", "--output", "type=cacheonly", str(tmp_path)]
    subprocess.run(built, capture_output=True, check=True)
