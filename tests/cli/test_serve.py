"""The container of `reprise serve` gets only the package and the token file."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.models.test_package_store import small_package
from trainer.base.errors import UsageError
from trainer.cli import containers, serve
from trainer.models.package import write_package

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCKER = """#!/bin/sh
{ echo "$REPRISE_PACKAGE $REPRISE_SERVE_PORT"; printf '%s\\n' "$@"; } >"$CALLS"
exit 7
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the file in which a fake `docker` records its arguments, on a host without torch."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(DOCKER)
    (tmp_path / "bin/docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setattr(serve, "can_train", lambda: False)
    monkeypatch.setattr(containers, "require_set_up", lambda _, *, needs_store: needs_store and 1 / 0)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield tmp_path / "calls"
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(*small_package(), runs=tmp_path / "runs")


def test_a_container_gets_the_package_and_a_port_of_the_loopback_device(calls: Path, package: Path) -> None:
    assert serve.main([str(package), "--port", "9000", "--max-batch", "8"]) == 7
    first, *words = calls.read_text().splitlines()
    assert first == f"{package} 9000"
    assert words[:3] == ["compose", "run", "--rm"]
    assert words[4:] == [
        *("--publish=127.0.0.1:9000:9000", "serve", "serve", "/package", "--max-body=16777216", "--max-batch=8"),
        *("--batch-wait=2.0", "--timeout=30.0", "--concurrency=256", "--host=0.0.0.0", "--port=9000"),
    ]
    assert words[3].startswith("--name=reprise-serve-9000-")


def test_a_container_reads_the_token_of_a_file_that_is_mounted(calls: Path, package: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-of-16-characters\n")
    serve.main([str(package), "--token-file", str(tmp_path / "token")])
    words = calls.read_text().splitlines()
    assert words[words.index("--volume") + 1] == f"{tmp_path / 'token'}:/run/token:ro"
    assert words[-1] == "--token-file=/run/token"
    assert "a-token" not in calls.read_text()


@pytest.mark.parametrize(("host", "warns"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])  # noqa: S104
def test_an_address_that_others_reach_without_a_token_is_reported(
    calls: Path, package: Path, capsys: pytest.CaptureFixture[str], host: str, *, warns: bool
) -> None:
    serve.main([str(package), "--host", host])
    assert calls.exists()
    assert ("--token-file" in capsys.readouterr().err) == warns


@pytest.mark.parametrize("text", ["", "short", "two words of a token", "a-tökén-of-16-characters"])
def test_a_file_without_a_token_is_an_error(calls: Path, package: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(UsageError, match="has no token: expected one line of at least 16 visible ASCII characters"):
        serve.main([str(package), "--token-file", str(tmp_path / "token")])
    assert not calls.exists()


@pytest.mark.parametrize("words", [("--port", "70000"), ("--max-batch", "0"), ("--timeout", "nan")])
def test_an_option_out_of_range_is_an_error(calls: Path, package: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=rf"{words[0]} is {words[1]}; expected"):
        serve.main([str(package), *words])
    assert not calls.exists()
