"""No command prints escape sequences from the values, names or keys in strangers' documents."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.data.conftest import typed
from tests.runs.runs import finish_run
from tests.security.hostile import ESCAPES, bad_run, bad_seal, change_record
from trainer.cli import main
from trainer.runs.publish import publish_run
from trainer.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["typed"]

EVIL = f"{ESCAPES}\u202e\x9b\x7f"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


def print_safely(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return a command's stdout and stderr, after checking that they contain no active escape sequence."""
    capsys.readouterr()
    main([*words])
    captured = capsys.readouterr()
    assert not OBEYED.search(captured.out + captured.err)
    if "--json" in words and captured.out:
        json.loads(captured.out)
    return captured.out + captured.err


def spoil(content: dict[str, Any]) -> None:
    """Insert escape sequences into free texts, and as keys of tables with free keys."""
    around, outcome = content["circumstances"], content["outcome"]
    content["ingredients"]["settings"][EVIL] = EVIL
    outcome |= {"reason": EVIL, "unread": [EVIL], "undefined": {EVIL: EVIL}, "telemetry": {EVIL: EVIL}}
    outcome["metrics"] |= {EVIL: EVIL, f"test_{EVIL}": 1.0}
    outcome["ledger"][EVIL] = {"value": EVIL, "origin": EVIL, "bound": [EVIL], "read": [EVIL]}
    around |= {"command": [EVIL], "drift": [EVIL], "drift_at_end": [EVIL, "x"], "changed": [EVIL]}
    around |= {"execution": {EVIL: EVIL}, "variables": {EVIL: EVIL}}
    around["origins"][EVIL] = EVIL
    around["image"] |= {"reason": EVIL, "reference": EVIL, "environment": EVIL}
    around["source"] |= {"left_out": [EVIL], "submodules": {EVIL: EVIL}}
    around["inventory"] |= {"python": EVIL, "libraries": {EVIL: 1}, "roots": [EVIL], "system": {EVIL: EVIL}}
    around["host"] |= {"name": "\u202e", "cpu": "\u202e", "driver": EVIL, "cuda_driver": EVIL}


def spoil_key(content: dict[str, Any]) -> None:
    """Insert an entry whose key is an escape sequence, and which has a key that the schema does not define."""
    content["ingredients"]["datasets"][EVIL] = {EVIL: 1}


def spoil_name(content: dict[str, Any]) -> None:
    content["ingredients"]["settings"][EVIL] = 0
    content["circumstances"]["origins"][EVIL] = "command line"


@pytest.mark.parametrize("change", [spoil, spoil_key, spoil_name])
def test_control_characters_of_a_record_are_escaped(
    runs: Path, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, Any]], None]
) -> None:
    good, bad = finish_run(runs).record.run, bad_run(runs, change)
    verbs = (["runs", "show", bad], ["runs", "ls"], ["compare", good, bad])
    document = "".join(print_safely(capsys, *words, *more) for words in verbs for more in ([], ["--json"]))
    assert "]0;PWNED" in document
    print_safely(capsys, "report", bad, good, "--no-samples", "-o", "-")


@pytest.mark.parametrize("change", [spoil, spoil_key, spoil_name])
def test_control_characters_of_a_seal_are_escaped(
    store: Path, runs: Path, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, Any]], None]
) -> None:
    bad = bad_seal(store, runs, change)
    good = finish_run(runs).record.run
    verbs = (["runs", "show", bad], ["runs", "ls"], ["compare", good, bad], ["runs", "pull", bad])
    assert "]0;PWNED" in "".join(print_safely(capsys, *words, *more) for words in verbs for more in ([], ["--json"]))


def test_control_characters_in_a_table_header_are_escaped(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs of one experiment differ in a setting whose name contains an escape sequence."""
    for value in (0, 1):
        run = finish_run(runs)

        def differ(content: dict[str, Any], value: int = value) -> None:
            content["ingredients"]["settings"][ESCAPES] = value
            content["circumstances"]["origins"][ESCAPES] = "command line"

        path = run.folder / "record.json"
        path.write_bytes(change_record(path.read_bytes(), differ))
    assert "u001b]0;PWNED" in print_safely(capsys, "runs", "ls").splitlines()[0]


def test_control_characters_of_another_hosts_claim_are_escaped(
    store: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finish_run(runs).record.run
    publish_run(runs / run, open_store(str(store)))
    for host in (ESCAPES, "h\u202e"):
        claim = store / "runs" / run / "attempts" / "1" / "claim.json"
        content = json.loads(claim.read_bytes()) | {"host": host, "token": "f" * 32}
        claim.chmod(0o644)
        claim.write_text(json.dumps(content))
        (runs / run / "attempts" / "1" / "published.json").unlink(missing_ok=True)
        assert "\\u" in print_safely(capsys, "runs", "publish", run)


def test_control_characters_of_a_declaration_are_escaped(
    typed: Callable[..., tuple[int, str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Escape sequences in a colleague's declaration and in the document of a version in the store."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"a")
    for body in (b"a", b"b"):
        (tmp_path / "folder" / "a").write_bytes(body)
        typed("publish", "pics", "folder")
    document = tmp_path / "store" / "datasets" / "pics" / "1.json"
    document.chmod(0o644)
    document.write_text(json.dumps(json.loads(document.read_bytes()) | {"license": EVIL, "source": EVIL}))
    declared = tmp_path / "datasets" / "pics.toml"
    escaped = json.dumps(EVIL)
    text = re.sub('(license|source) = "unknown"', lambda found: f"{found[1]} = {escaped}", declared.read_text())
    declared.write_text(text)
    for words in (["show", "pics@1"], ["show", "pics"], ["ls"], ["show", "pics", "--json"], ["ls", "--json"]):
        assert "\\u001b]0;PWNED" in print_safely(capsys, "data", *words)


@pytest.mark.parametrize("text", ['"\\u001b[2J" = 1', 'seed = "\\u001b[2J"'])
def test_control_characters_of_a_settings_file_are_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "s.toml").write_text(text)
    assert "1b[2J" in print_safely(capsys, "train", "--exp", "digits", "--settings", str(tmp_path / "s.toml"))
