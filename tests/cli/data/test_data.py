"""`reprise data` with a checkout, a directory store and a cache: output and exit codes."""

from __future__ import annotations

import json
import os
import signal
from threading import Event
from typing import TYPE_CHECKING

import pytest

from tests.data.conftest import FILES, contents, damage, fill, leftovers, objects
from tests.stores.fakes import FaultyStore
from trainer import cli
from trainer.base.errors import StoreMissingError
from trainer.cli import configuration, data
from trainer.cli import data as data_commands
from trainer.cli.data import caches
from trainer.data.cache.folder import Cache
from trainer.environments.dotenv import write_block
from trainer.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Type = Callable[..., tuple[int, str, str]]


@pytest.fixture
def reprise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Run a command in a checkout with an empty store; return exit code, stdout and stderr."""
    for module in (data, configuration):  # commands use neither this checkout's datasets nor its .env
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


def test_publish_declares_the_dataset_and_publishing_again_changes_nothing(reprise: Type, tmp_path: Path) -> None:
    words = ("--license", "CC0-1.0", "--split", "train=0:4", "--split", "test=4:6")
    code, out, _ = reprise("publish", "small", str(tmp_path / "source"), *words)
    sizes = "6 files, 28.2 kB in total; 17.9 kB uploaded; 10.2 kB not uploaded (duplicates, or already in the store)"
    assert (code, out) == (0, f"small@1: published; {sizes}\n")
    text = (tmp_path / "datasets/small.toml").read_text()
    assert reprise("publish", "small", str(tmp_path / "source"))[1].startswith("small@1: already published")
    assert (tmp_path / "datasets/small.toml").read_text() == text
    assert 'license = "CC0-1.0"' in text
    assert "test = [4, 6]" in text


def test_fetch_prints_the_folder_and_nothing_else_on_stdout(reprise: Type, tmp_path: Path) -> None:
    reprise("publish", "small", str(tmp_path / "source"))
    code, out, err = reprise("fetch", "small", "--folder")
    assert code == 0
    assert contents(tmp_path / out.strip()) == FILES
    assert err.startswith("fetching small@1: 17.9 kB\n")
    assert reprise("fetch", "small")[2] == ""
    assert json.loads(reprise("fetch", "small", "--json")[1])["was_cached"]


def test_a_version_is_fetched_by_its_number(reprise: Type, tmp_path: Path) -> None:
    reprise("publish", "small", str(tmp_path / "source"))
    (tmp_path / "source/a.txt").write_bytes(b"second")
    assert reprise("publish", "small", str(tmp_path / "source"))[1].startswith("small@2: published")
    first, second = (reprise("fetch", name, "--folder")[1].strip() for name in ("small@1", "small"))
    assert (tmp_path / first / "a.txt").read_bytes() == b"first"
    assert (tmp_path / second / "a.txt").read_bytes() == b"second"


def test_ls_and_show_print_the_declaration(reprise: Type, tmp_path: Path) -> None:
    reprise("publish", "small", str(tmp_path / "source"), "--split", "train=0:4")
    assert reprise("ls")[1].splitlines()[1].split()[:5] == ["small", "1", "6", "28.2", "kB"]
    assert "4 samples, rows 0 to 3" in reprise("show", "small")[1]
    shown = json.loads(reprise("show", "small", "--json")[1])
    assert (shown["splits"], shown["cached"]) == ({"train": [0, 4]}, None)
    assert json.loads(reprise("ls", "--json")[1])[0]["name"] == "small"


def test_verify_reports_damage_with_the_command_that_repairs_it(reprise: Type, tmp_path: Path) -> None:
    reprise("publish", "small", str(tmp_path / "source"))
    reprise("fetch", "small")
    assert reprise("verify", "small")[:2] == (0, "small@1: 6 files, 28.2 kB, all as published\n")
    damage(objects(Cache(root=tmp_path / "cache"))[0])
    code, _, err = reprise("verify", "small")
    assert (code, "'a.txt'" in err, "reprise data fetch small" in err) == (55, True, True)
    assert reprise("fetch", "small")[0] == 0
    assert reprise("verify", "small")[0] == 0


@pytest.mark.host
@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("fetch", "smal"), 44, "did you mean small?"),
        (("fetch", "small@2"), 44, "small is declared as small@1"),
        (("fetch", "small@two"), 2, "expected NAME, or NAME@VERSION with a number as VERSION"),
        (("fetch", "small", "--store", "/nowhere/at/all"), 53, "does not exist"),
        (("fetch", "small", "--store", "ftp://x"), 2, "unknown kind 'ftp'"),
        (("verify", "small"), 44, "is not in the cache"),
        (("publish", "small", "/nowhere"), 44, "the folder or file /nowhere does not exist"),
        (("publish", "small", "nowhere/a.csv", "--target", "y"), 44, "the folder nowhere does not exist either"),
        (("publish", "small", "nowhere/a.pt"), 44, "the folder or file nowhere/a.pt does not exist"),
        (("publish", "small", ".", "--split", "train=5:1"), 2, "found 5:1"),
        (("publish", "small", ".", "--split", "train"), 2, "--split: expected NAME=SAMPLES"),
        (("publish", "No Good", "."), 44, "cannot be a dataset's name"),
        (("publish-samples", "digitz"), 44, "digitz"),
        (("fecth",), 2, "did you mean fetch?"),
    ],
)
def test_an_invalid_command_is_an_error_with_the_documented_exit_code(
    reprise: Type, tmp_path: Path, words: tuple[str, ...], code: int, line: str
) -> None:
    pytest.importorskip("skimage", reason="publish-samples needs the extra `samples`")
    reprise("publish", "small", str(tmp_path / "source"))
    found, out, err = reprise(*words)
    assert (found, out) == (code, "")
    assert line in err
    assert "Traceback" not in err


def test_without_a_store_the_error_names_the_variable(
    reprise: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REPRISE_STORE")
    code, _, err = reprise("publish", "small", str(tmp_path / "source"))
    assert (code, "REPRISE_STORE" in err) == (StoreMissingError.code, True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_fetch_exits_with_its_code_and_resumes_later(
    reprise: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:

    def stopping(body: Iterator[bytes]) -> Iterator[bytes]:
        os.kill(os.getpid(), number)
        for block in body:
            for byte in block:
                Event().wait(0.01)
                yield bytes([byte])

    reprise("publish", "small", str(tmp_path / "source"))
    with monkeypatch.context() as patched:
        patched.setattr(
            data_commands, "configured_store", lambda address: FaultyStore(open_store(address), stopping, times=1)
        )
        found, out, err = reprise("fetch", "small")
    assert (found, out) == (code, "")
    assert "stopped by" in err
    assert not leftovers(Cache(root=tmp_path / "cache"))
    assert reprise("fetch", "small")[0] == 0


def test_diff_lists_changes_without_fetching(reprise: Type, tmp_path: Path) -> None:
    source = tmp_path / "source"
    reprise("publish", "small", str(source))
    (source / "a.txt").write_bytes(b"other")
    (source / "new.txt").write_bytes(b"new")
    (source / "empty").unlink()
    reprise("publish", "small", str(source))
    code, out, err = reprise("diff", "small@1", "small@2")
    lines = [line.split() for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert lines[:3] == [
        ["changed", "a.txt", "5", "B", "->", "5", "B"],
        ["removed", "empty", "0", "B"],
        ["added", "new.txt", "3", "B"],
    ]
    assert out.splitlines()[3] == "small@1 -> small@2: 1 added (3 B), 1 removed (0 B), 1 changed (5 B)"
    assert out.splitlines()[4:] == ["values not compared: scripts/reprise data diff small@1 small@2 --values"]
    result = json.loads(reprise("diff", "small@1", "small@2", "--json")[1])
    assert result["files"] == {"added": 1, "removed": 1, "changed": 1}
    assert [change["path"] for change in result["changes"]] == ["a.txt", "empty", "new.txt"]
    assert json.loads(reprise("diff", "small@1", "small@2", "--json", "--stat")[1]) == result | {"changes": []}
    assert reprise("diff", "small@2", "small")[1] == "small@2 -> small@2: the same files\n"
    assert not (tmp_path / "cache").exists()


def test_show_lists_the_versions_unless_the_store_is_away(
    reprise: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reprise("publish", "small", str(tmp_path / "source"))
    (tmp_path / "source/new").write_bytes(b"new")
    reprise("publish", "small", str(tmp_path / "source"))
    assert f"  versions  1, 2 in {tmp_path / 'store'}\n" in reprise("show", "small")[1]
    assert json.loads(reprise("show", "small@1", "--json")[1])["versions"] == [1, 2]
    monkeypatch.setenv("REPRISE_STORE", str(tmp_path / "away"))
    code, out, _ = reprise("show", "small")
    assert (code, "  versions  unknown: " in out) == (0, True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--lines", "a.txt", "--split", "train=0%:100%", "--split-seed", "4"), "seed = 4"),
        (("--images", "images", "--size", "8x8", "--resize", "pad"), 'folder = "images/"'),
        (("--images", "images", "--size", "8x8", "--resize", "pad", "--fill", "1"), 'resize = "pad"\nfill = 1.0\n'),
        (("--images", "images", "--white", "4095"), "white = 4095.0\n"),
        (("--images", "images", "--alpha", "white", "--frames", "first"), 'alpha = "white"\nframes = "first"\n'),
        (("--images", "images"), 'orientation = "apply"\n'),
        (("--split", "train=images/"), 'prefix = "images/"'),
        (("--split", "train=@list"), '"images/0001.png"'),
        (("--text", "a.txt", "--window", "2"), "window = 2"),
        (("--sample", "bytes=uint8[any]"), '"any"'),
    ],
)
def test_options_of_readers_and_splits_are_written_to_the_declaration(
    reprise: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list").write_text("images/0001.png\nimages/0002.png\n")
    for path in (tmp_path / "source/images").iterdir():
        # a PGM picture of one pixel; with --white, its pixels have more than 8 bits
        path.write_bytes(b"P5 1 1 4095 \x08\x00" if "--white" in words else b"P5 1 1 255 \x80")
    code, _, err = reprise("publish", "small", str(tmp_path / "source"), "--license", "CC0-1.0", *words)
    assert (code, "--source TEXT" in err, "--license" in err) == (0, True, False)
    assert expected in (tmp_path / "datasets/small.toml").read_text()
    assert reprise("publish", "small", str(tmp_path / "source"))[1].startswith("small@1: already published")


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("No_Good!",), 44, "for example no_good"),
        (("small", "--split", "train=0:7"), 44, "split 'train' of small ends at row 7; its reader finds 6 samples"),
        (("small", "--array", "x=a.txt"), 44, "a.txt is not a plain array"),
        (("small", "--lines", "a.txt", "--images", "."), 2, "two readers"),
        (("small", "--text", "a.txt"), 2, "--text needs --window"),
        (("small", "--sample", "x"), 2, "expected FIELD=TYPE[SHAPE]"),
        (("small", "--sample", "x=uint8[many]"), 2, "expected FIELD=TYPE[SHAPE]"),
        (("small", "--split", "val=@nowhere.txt"), 2, "nowhere.txt cannot be read as a list of files"),
        (("small", "--images", ".", "--size", "8"), 2, "--size: expected HEIGHTxWIDTH in pixels, found '8'"),
        (("small", "--images", ".", "--size", "0x8"), 2, "--size: expected HEIGHTxWIDTH in pixels, found '0x8'"),
        (("small", "--images", ".", "--size", "8x8", "--resize"), 2, "--resize has no value"),
        (("small", "--images", ".", "--resize", "squeeze"), 2, "expected stretch, crop, pad, fit"),
        (("small", "--images", ".", "--resize", "crop"), 2, "--resize crop has no effect without --size"),
        (("small", "--images", ".", "--fill", "1"), 2, "--fill 1 has no effect without --resize pad"),
        (
            ("small", "--images", ".", "--alpha", "drop", "--mode", "RGBA"),
            2,
            "--alpha drop has no effect with --mode RGBA",
        ),
        (("small", "--images", ".", "--size", "9000x9000"), 2, "--size 9000x9000: expected at most 64,000,000 pixels"),
        (
            ("small", "--images", ".", "--size", "9" * 99 + "x9"),
            2,
            "--size: expected HEIGHTxWIDTH in pixels, found '99",
        ),
        (("small", "--split", "train=0:6", "--split-seed", "4"), 2, "--split-seed has no effect without a range in %"),
        (("small", "--split", "train=0%:9%", "--split-seed=-1"), 2, "expected an integer, 0 or more, found '-1'"),
        (("small", "--size", "8x8"), 2, "--size has no effect without --images"),
        (("small", "--text", "a.txt", "--window", "2", "--white", "255"), 2, "--white has no effect without --images"),
        (("small", "--sample", "x=float31"), 40, "float31"),
    ],
)
def test_options_that_do_not_fit_the_folder_are_an_error_before_any_upload(
    reprise: Type, tmp_path: Path, words: tuple[str, ...], code: int, line: str
) -> None:
    found, out, err = reprise("publish", words[0], str(tmp_path / "source"), *words[1:])
    assert (found, out) == (code, "")
    assert line in err
    assert "^[" not in err
    assert not any((tmp_path / "store").iterdir())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--images", "{source}"), "expected a path inside {source} (an absolute path)\n  -> use --images .\n"),
        (("--images", "{source}/images"), "  -> use --images images\n"),
        (("--images", "images/../images"), "(a part is '..')\n"),
        (("--images", ".."), "--images ..: expected a path inside {source} (a part is '..')\n  -> copy it into"),
        (("--images", ".", "--labels", "{source}/a.txt"), "  -> use --labels a.txt\n"),
        (("--array", "x={source}/a.npy"), "  -> use --array x=a.npy\n"),
        (("--lines", "{source}/a.txt"), "  -> use --lines a.txt\n"),
        (
            ("--lines", "/elsewhere/a.txt"),
            "  -> copy it into {source}: a version contains every file that its reader needs\n",
        ),
        (("--column", "x=y", "--table", "{source}/t.parquet"), "  -> use --table t.parquet\n"),
    ],
)
def test_a_path_outside_the_folder_is_an_error_with_the_path_to_use(
    reprise: Type, tmp_path: Path, words: tuple[str, ...], line: str
) -> None:
    source = str(tmp_path / "source")
    code, _, err = reprise("publish", "small", source, *(word.format(source=source) for word in words))
    assert (code, line.format(source=source) in err) == (2, True), err


@pytest.mark.parametrize("option", ["--license", "--source", "--classes", "--split"])
def test_an_argument_that_is_not_utf_8_is_an_error(reprise: Type, tmp_path: Path, option: str) -> None:
    word = b"caf\xe9,a=0:3".decode(errors="surrogateescape")
    code, _, err = reprise("publish", "small", str(tmp_path / "source"), "--images", ".", option, word)
    assert (code, f"{option} 'caf\\xe9,a=0:3' is not UTF-8\n" in err) == (2, True)


def test_a_path_may_begin_with_a_dot_and_a_slash(reprise: Type, tmp_path: Path) -> None:
    code, _, _ = reprise("publish", "small", str(tmp_path / "source"), "--lines", "./a.txt")
    assert (code, 'file = "a.txt"' in (tmp_path / "datasets/small.toml").read_text()) == (0, True)


def containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volume: str) -> list[list[str]]:
    """Set up the checkout with a fake `docker` whose volume is at `volume`; return a list to which commands for containers are added."""
    write_block(tmp_path / ".env", {"COMPOSE_PROJECT_NAME": "mine"})
    fill(tmp_path / "bin", {"docker": f'#!/bin/sh\n[ "$1" = volume ] && echo {volume}\n'.encode()})
    (tmp_path / "bin/docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    typed: list[list[str]] = []

    def in_image(words: list[str]) -> int:
        typed.append(words)
        return 0

    monkeypatch.setattr(caches, "run_in_image", in_image)
    return typed


@pytest.mark.host
@pytest.mark.parametrize("volume", ["{tmp}/volume", "/nowhere/at/all"])
def test_a_dataset_cached_only_for_containers_is_verified_in_a_container(
    reprise: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volume: str
) -> None:
    reprise("publish", "small", str(tmp_path / "source"))
    reprise("fetch", "small", "--cache", str(tmp_path / "volume"))
    typed = containers(tmp_path, monkeypatch, volume.format(tmp=tmp_path))
    code, _, err = reprise("verify", "small", "--json")
    assert (code, typed) == (0, [["data", "verify", "small", "--json"]])
    assert f"small@1 is not in {tmp_path / 'cache'}; verifying the containers' cache" in err
    assert reprise("verify", "small", "--cache", str(tmp_path / "none"))[0] == 44, "--cache selects one cache"


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("ls",), "--store"),
        (("gc",), "--store"),
        (("publish", "small", "source"), "--cache"),
        (("import", "small", "https://example.com/a.csv"), "--cache"),
        (("update", "small"), "--cache"),
        (("push", "small"), "--cache"),
        (("publish-samples",), "--cache"),
    ],
)
def test_an_option_that_a_command_does_not_use_is_rejected(reprise: Type, words: tuple[str, ...], option: str) -> None:
    code, _, err = reprise(*words, option, "x")
    assert code == 2
    assert f"unknown option {option}" in err


@pytest.mark.host
def test_verify_names_the_verified_cache_if_there_are_two(
    reprise: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reprise("publish", "small", str(tmp_path / "source"))
    for where in ("volume", "cache"):
        reprise("fetch", "small", "--cache", str(tmp_path / where))
    assert containers(tmp_path, monkeypatch, str(tmp_path / "volume")) == []
    code, out, err = reprise("verify", "small")
    assert (code, out) == (0, "small@1: 6 files, 28.2 kB, all as published\n")
    assert err.endswith(
        "containers use a separate cache; to verify it: docker compose run --rm train data verify small\n"
    )
    assert "in containers yes" in reprise("show", "small")[1]
    assert json.loads(reprise("show", "small", "--json")[1])["cached_for_containers"]
    assert "docker compose run --rm train data gc" in reprise("gc")[2]


def test_a_dataset_in_no_cache_is_not_verified(reprise: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reprise("publish", "small", str(tmp_path / "source"))
    typed = containers(tmp_path, monkeypatch, str(tmp_path / "volume"))
    (tmp_path / "volume").mkdir()
    assert (reprise("verify", "small")[0], typed) == (44, [])


def test_a_damaged_dataset_is_not_reported_as_absent(reprise: Type, tmp_path: Path) -> None:
    reprise("publish", "small", str(tmp_path / "source"))
    reprise("fetch", "small")
    damage(objects(Cache(root=tmp_path / "cache"))[0])
    for message in ("is damaged in the cache", "an earlier process read damaged bytes"):
        code, _, err = reprise("verify", "small")
        assert (code, message in err) == (55, True), err


def test_push_copies_a_version_unchanged_and_only_once(reprise: Type, tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    reprise("publish", "small", str(tmp_path / "source"))
    code, out, _ = reprise("push", "small@1", "--store", str(tmp_path / "bucket"))
    assert (code, out) == (0, f"small@1: pushed, 18.8 kB sent; in {tmp_path / 'bucket'}\n")
    assert contents(tmp_path / "bucket") == contents(tmp_path / "store")
    _, out, _ = reprise("push", "small", "--store", str(tmp_path / "bucket"))
    assert out == f"small@1: already stored, nothing sent; in {tmp_path / 'bucket'}\n"
    back = ("--from", str(tmp_path / "bucket"), "--store", str(tmp_path / "store"), "--json")
    assert json.loads(reprise("push", "small", *back)[1])[0]["sent"] == 0


@pytest.mark.host
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("small",), 2, "--store is missing"),
        (("small", "--store", "STORE"), 2, "both stores are"),
        (("small@2", "--store", "BUCKET"), 44, "small@2 is not in"),
        (("small@two", "--store", "BUCKET"), 2, "with a number"),
        (("small", "--store", "ABSENT"), 53, "does not exist"),
    ],
)
def test_an_invalid_push_is_an_error(
    reprise: Type, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "bucket").mkdir()
    folders = {"STORE": "store", "BUCKET": "bucket", "ABSENT": "absent"}
    reprise("publish", "small", str(tmp_path / "source"))
    found, _, err = reprise("push", *(str(tmp_path / folders[word]) if word in folders else word for word in words))
    assert (found, message in err) == (code, True), err
