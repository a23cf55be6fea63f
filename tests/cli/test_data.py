"""`reprise data` as it is typed: a checkout, a directory store, a cache, and the lines that come out."""

from __future__ import annotations

import json
import os
import signal
from threading import Event
from typing import TYPE_CHECKING

import pytest

from tests.actions.conftest import FILES, contents, damage, fill, leftovers, objects
from tests.actions.fakes import FaultyStore
from trainer import cli
from trainer.cli import data, places
from trainer.store import open_store
from trainer.store.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Type = Callable[..., tuple[int, str, str]]


@pytest.fixture
def reprise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Type a command in a checkout with an empty store; its exit code, results and the rest."""
    for module in (data, places):  # neither this checkout's datasets nor its .env
        monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    monkeypatch.setenv("REPRISE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "cache"))
    for folder in ("store", "datasets"):
        (tmp_path / folder).mkdir()
    fill(tmp_path / "source", FILES)

    def typed(*words: str) -> tuple[int, str, str]:
        code = cli.main(["data", *words])
        out, err = capsys.readouterr()
        return code, out, err

    return typed


def test_publish_declares_the_dataset_and_twice_changes_nothing(reprise: Type, tmp_path: Path) -> None:
    """The declaration is written once; what was said about the dataset stays when nothing new is said."""
    words = ("--licence", "CC0-1.0", "--split", "train=0:4", "--split", "test=4:6")
    code, out, _ = reprise("publish", "small", str(tmp_path / "source"), *words)
    assert (code, out) == (0, "small@1: published; 6 files, 28.2 kB, 17.9 kB uploaded\n")
    text = (tmp_path / "datasets/small.toml").read_text()
    assert reprise("publish", "small", str(tmp_path / "source"))[1].startswith("small@1: already published")
    assert (tmp_path / "datasets/small.toml").read_text() == text
    assert 'licence = "CC0-1.0"' in text
    assert "test = [4, 6]" in text


def test_fetch_prints_the_folder_and_nothing_else_on_stdout(reprise: Type, tmp_path: Path) -> None:
    """A script can use what comes out; progress is on stderr."""
    reprise("publish", "small", str(tmp_path / "source"))
    code, out, err = reprise("fetch", "small")
    assert code == 0
    assert contents(tmp_path / out.strip()) == FILES
    assert err.startswith("fetching small@1: 17.9 kB\n")
    assert reprise("fetch", "small")[2] == ""
    assert json.loads(reprise("fetch", "small", "--json")[1])["was_cached"]


def test_a_version_is_fetched_by_its_number(reprise: Type, tmp_path: Path) -> None:
    """An earlier version is what it was, whatever is declared now."""
    reprise("publish", "small", str(tmp_path / "source"))
    (tmp_path / "source/a.txt").write_bytes(b"second")
    assert reprise("publish", "small", str(tmp_path / "source"))[1].startswith("small@2: published")
    first, second = (reprise("fetch", name)[1].strip() for name in ("small@1", "small"))
    assert (tmp_path / first / "a.txt").read_bytes() == b"first"
    assert (tmp_path / second / "a.txt").read_bytes() == b"second"


def test_ls_and_show_tell_what_is_declared(reprise: Type, tmp_path: Path) -> None:
    """Counts, sizes, splits, and whether it is cached."""
    reprise("publish", "small", str(tmp_path / "source"), "--split", "train=0:4")
    assert reprise("ls")[1].splitlines()[1].split()[:5] == ["small", "1", "6", "28.2", "kB"]
    assert "4 samples, rows 0 to 3" in reprise("show", "small")[1]
    shown = json.loads(reprise("show", "small", "--json")[1])
    assert (shown["splits"], shown["cached"]) == ({"train": [0, 4]}, None)
    assert json.loads(reprise("ls", "--json")[1])[0]["name"] == "small"


def test_verify_finds_damage_and_says_what_to_type(reprise: Type, tmp_path: Path) -> None:
    """Exit code 55, the file's name, and the command that replaces it."""
    reprise("publish", "small", str(tmp_path / "source"))
    reprise("fetch", "small")
    assert reprise("verify", "small")[:2] == (0, "small@1: 6 files, 28.2 kB, all as published\n")
    damage(objects(Cache(root=tmp_path / "cache"))[0])
    code, _, err = reprise("verify", "small")
    assert (code, "'a.txt'" in err, "reprise data fetch small" in err) == (55, True, True)
    assert reprise("fetch", "small")[0] == 0
    assert reprise("verify", "small")[0] == 0


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("fetch", "smal"), 44, "did you mean small?"),
        (("fetch", "small@2"), 44, "small is declared as small@1"),
        (("fetch", "small@two"), 2, "expected NAME or NAME@VERSION"),
        (("fetch", "small", "--store", "/nowhere/at/all"), 53, "does not exist"),
        (("fetch", "small", "--store", "ftp://x"), 2, "unknown kind 'ftp'"),
        (("verify", "small"), 44, "is not in the cache"),
        (("publish", "small", "/nowhere"), 44, "is not a folder"),
        (("publish", "small", ".", "--split", "train=5:1"), 40, "one past the last"),
        (("publish", "small", ".", "--split", "train"), 2, "expected NAME=FIRST:END"),
        (("publish", "No Good", "."), 40, "name"),
        (("publish-samples", "digitz"), 44, "digitz"),
        (("fecth",), 2, "did you mean fetch?"),
    ],
)
def test_what_is_typed_wrongly_gets_a_line_and_a_code(
    reprise: Type, tmp_path: Path, words: tuple[str, ...], code: int, line: str
) -> None:
    """No traceback, the documented exit code, and what to do."""
    pytest.importorskip("skimage", reason="publish-samples needs the extra `samples`")
    reprise("publish", "small", str(tmp_path / "source"))
    found, out, err = reprise(*words)
    assert (found, out) == (code, "")
    assert line in err
    assert "Traceback" not in err


def test_no_store_is_said_so(reprise: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing names a store, the variable is named."""
    monkeypatch.delenv("REPRISE_STORE")
    code, _, err = reprise("publish", "small", str(tmp_path / "source"))
    assert (code, "REPRISE_STORE" in err) == (2, True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_fetch_that_is_stopped_says_so_and_goes_on_later(
    reprise: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    """Ctrl-C and SIGTERM: one line, the documented code, no temporary file, and the same command ends well."""

    def stopping(body: Iterator[bytes]) -> Iterator[bytes]:
        os.kill(os.getpid(), number)
        for block in body:
            for byte in block:
                Event().wait(0.01)
                yield bytes([byte])

    reprise("publish", "small", str(tmp_path / "source"))
    with monkeypatch.context() as patched:
        patched.setattr(data, "open_store", lambda address: FaultyStore(open_store(address), stopping, times=1))
        found, out, err = reprise("fetch", "small")
    assert (found, out) == (code, "")
    assert "stopped by" in err
    assert not leftovers(Cache(root=tmp_path / "cache"))
    assert reprise("fetch", "small")[0] == 0
