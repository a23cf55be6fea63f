"""A developer's verbs: what they answer, and that they change nothing where there is nothing to change."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
SCRIPTS: Final = ROOT / "scripts"
SHELL: Final = sorted(
    path for path in SCRIPTS.iterdir() if path.read_bytes().startswith((b"#!/bin/sh", b"#!/usr/bin/env bash"))
)
DIGEST: Final = "sha256:" + "0" * 64


def call(name: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Call a script where nobody sits at a terminal."""
    command = [str(SCRIPTS / name), *words]
    nobody = subprocess.DEVNULL
    return subprocess.run(command, env=os.environ | env, stdin=nobody, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_a_shell_script_is_executable_and_can_be_parsed(path: Path) -> None:
    """Git carries the mode, and the shell named in the first line accepts the whole file."""
    shell = "bash" if b"bash" in path.read_bytes().splitlines()[0] else "sh"
    assert os.access(path, os.X_OK)
    assert subprocess.run([shell, "-n", path], capture_output=True, text=True, check=False).stderr == ""


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck: apt-get install shellcheck")
def test_shellcheck_finds_nothing() -> None:
    """Quoting, traps and tests are as the shell reads them."""
    found = subprocess.run(["shellcheck", *SHELL], capture_output=True, text=True, check=False)
    assert found.stdout == ""


@pytest.mark.parametrize(
    "words", [("engine",), ("engine", "reset"), ("engine", "stop", "--yes"), ("debian",), ("debian", "install")]
)
def test_an_unknown_word_is_answered_with_the_usage(words: tuple[str, ...]) -> None:
    """Exit code 2, the verbs on stderr, nothing on stdout."""
    said = call(*words)
    assert said.returncode == 2
    assert f"scripts/{words[0]}" in said.stderr
    assert said.stdout == ""


def test_nothing_is_installed_without_an_answer() -> None:
    """The packages are named, and nobody to say yes is an error: by its own code on Debian 12, as impossible elsewhere."""
    said = call("debian", "install", "no-such-package")
    assert said.returncode in {2, 70}
    assert "no-such-package" in said.stderr
    assert len(said.stderr.splitlines()) == 1


@pytest.mark.parametrize("verb", ["start", "status"])
def test_an_engine_elsewhere_that_is_silent_is_named(verb: str) -> None:
    """DOCKER_HOST decides where the engine is: none is started beside it."""
    said = call("engine", verb, DOCKER_HOST="unix:///nowhere.sock")
    assert said.returncode == 61
    assert "unix:///nowhere.sock" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_stop_leaves_an_engine_of_somebody_else_alone(tmp_path: Path) -> None:
    """Without a process of its own there is nothing to stop; a stale process id is nobody's."""
    (tmp_path / "pid").write_text(f"{os.getpid()}\n", encoding="utf-8")
    said = call("engine", "stop", REPRISE_ENGINE_STATE=str(tmp_path))
    assert said.returncode == 0
    assert "nothing to stop" in said.stderr


def test_a_base_of_ones_own_is_taken_as_it_is() -> None:
    """A company's copy of the image, by digest, is the answer."""
    mirror = f"registry.example/debian:bookworm-slim@{DIGEST}"
    assert call("base", REPRISE_BASE=mirror).stdout == f"{mirror}\n"


def test_a_base_without_a_digest_is_refused() -> None:
    """A tag can move; what is built on must not."""
    said = call("base", REPRISE_BASE="debian:bookworm-slim")
    assert said.returncode == 2
    assert "debian:bookworm-slim" in said.stderr
    assert "sha256" in said.stderr


@pytest.mark.engine
def test_ensure_changes_nothing_where_an_engine_answers() -> None:
    """Nothing missing, nothing said."""
    said = call("engine", "ensure")
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


@pytest.mark.engine
def test_status_tells_the_versions_of_engine_and_client_apart() -> None:
    """Each is asked of the one it belongs to."""
    format_ = "{{.Server.Version}}, {{.Client.Version}}"
    server, client = (
        subprocess.run(["docker", "version", "--format", format_], capture_output=True, text=True, check=True)
        .stdout.strip()
        .split(", ")
    )
    said = call("engine", "status")
    assert said.stdout.startswith(f"engine {server}, ")
    assert f"; client {client}; " in said.stdout


@pytest.mark.engine
def test_the_base_can_be_built_on(tmp_path: Path) -> None:
    """One line, by digest, the same when asked again; a build finds it without a registry."""
    reference = call("base").stdout.strip()
    assert "@sha256:" in reference
    assert call("base").stdout.strip() == reference
    (tmp_path / "Dockerfile").write_text(f"FROM {reference}\nRUN grep -q bookworm /etc/os-release\n", encoding="utf-8")
    built = ["docker", "buildx", "build", "--no-cache", "--output", "type=cacheonly", str(tmp_path)]
    subprocess.run(built, capture_output=True, check=True)
