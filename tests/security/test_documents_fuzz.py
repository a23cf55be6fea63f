"""Mutated documents of every kind never cause exit code 1, "this is a bug in Reprise", and are read in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.records import record
from tests.security.mutation import ODD
from trainer.base.errors import DocumentError, RepriseError
from trainer.cli.messages import report
from trainer.cli.run_page import page, summary
from trainer.cli.runs.table import table
from trainer.runs.list import ListedRun, RunLocation
from trainer.runs.record import read_record
from trainer.runs.seal import read_sealed

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([*ODD][:30]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
GOLDEN = json.loads((ROOT / "tests" / "golden" / "record-1.json").read_bytes())


def value_paths(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path, *(place for key, value in items for place in value_paths(value, (*path, key)))]


def replace_value(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    first, *rest = path
    if isinstance(content, dict):
        return {**content, first: replace_value(content[first], tuple(rest), value)}
    return [replace_value(each, tuple(rest), value) if place == first else each for place, each in enumerate(content)]


@given(path=st.sampled_from(value_paths(GOLDEN)), value=JSON)
def test_any_value_at_any_path_of_a_record_is_shown_or_rejected(path: tuple[Any, ...], value: Any) -> None:
    text = json.dumps(replace_value(GOLDEN, path, value))
    try:
        found = read_record(text, where="record.json")
    except DocumentError:
        return
    listed = ListedRun(run=found.run, location=RunLocation.LOCAL, attempt=found.attempt, record=found)
    other = ListedRun(run="a", location=RunLocation.LOCAL, attempt=1, record=record())
    assert [*page(listed, found), *table([listed, other])]
    json.dumps(summary(listed))
    assert read_record(found.to_json(), where="again").to_json() == found.to_json()


@given(path=st.sampled_from(value_paths({"record": GOLDEN, "files": [], "source": None})), value=JSON)
def test_any_value_at_any_path_of_a_seal_is_read_or_rejected(path: tuple[Any, ...], value: Any) -> None:
    seal = {"format": "reprise.sealed/1", "record": GOLDEN, "files": GOLDEN["outcome"]["files"], "source": None}
    text = json.dumps(replace_value(seal, path, value)).encode()
    try:
        read_sealed(text, run=GOLDEN["run"], attempt=1, where="sealed.json")
    except DocumentError:
        return


def run_campaign(*words: str, patience: float) -> Sequence[dict[str, Any]]:
    """Return the results of a campaign in a separate process, by kind."""
    command = [sys.executable, "-m", "tests.security.campaign", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=patience, check=False)
    document = [json.loads(line) for line in done.stdout.splitlines()]
    assert not [error for each in document for error in each["faults"]], document
    assert done.returncode == 0, done.stderr[-2000:]
    return document


@pytest.mark.host
@pytest.mark.torch
def test_documents_of_every_kind_are_read_or_rejected() -> None:
    result = run_campaign("--count", "12", "--seconds", "60", "--seed", "7", patience=600)
    assert min(each["executions"] for each in result) == 12


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.parametrize("seed", ["11", "12"])
def test_a_long_campaign_finds_no_unhandled_error(seed: str, tmp_path: Path) -> None:
    result = run_campaign("--seconds", "30", "--seed", seed, "--keep", str(tmp_path), patience=3000)
    assert sum(each["executions"] for each in result) > 10_000


def test_an_unhandled_exception_exits_with_1() -> None:
    assert report(KeyError("x"), as_json=True, debug=False) == 1
    assert report(RepriseError("x"), as_json=True, debug=False) == 1
