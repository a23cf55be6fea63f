"""How a person names a run."""

from __future__ import annotations

import pytest

from trainer.base.errors import RunNotFoundError, UsageError
from trainer.runs.names import full_run_id, resolve_run

KNOWN = ["20260301t120000-aaaaaa", "20260301t120000-bbbbbb", "20260302t080000-cccccc"]


@pytest.mark.parametrize(
    ("word", "run"),
    [("latest", KNOWN[2]), (KNOWN[0], KNOWN[0]), ("20260302", KNOWN[2]), (f"runs/{KNOWN[1]}/", KNOWN[1])],
)
def test_an_id_its_beginning_latest_and_its_folder_name_a_run(word: str, run: str) -> None:
    """Whatever is at hand."""
    assert resolve_run(word, KNOWN) == run


def test_a_beginning_of_several_names_them() -> None:
    """So that a longer one can be typed."""
    with pytest.raises(UsageError, match="matches 2 runs: 20260301t120000-aaaaaa, 20260301t120000-bbbbbb"):
        resolve_run("20260301", KNOWN)


@pytest.mark.parametrize(
    ("word", "hint"), [("20260302t080001-cccccc", KNOWN[2]), ("zzz", "newest is"), ("", "newest is")]
)
def test_an_unknown_one_is_answered_with_the_nearest(word: str, hint: str) -> None:
    """Or with the latest, where nothing is near."""
    with pytest.raises(RunNotFoundError) as fault:
        resolve_run(word, KNOWN)
    assert hint in str(fault.value.hint)


def test_with_no_runs_it_says_how_to_make_one() -> None:
    """`latest` of nothing is nothing."""
    with pytest.raises(RunNotFoundError) as fault:
        resolve_run("latest", [])
    assert "train" in str(fault.value.hint)


def test_only_a_whole_id_can_be_known_elsewhere() -> None:
    """A beginning is looked up."""
    assert full_run_id(KNOWN[0]) == KNOWN[0]
    assert full_run_id(KNOWN[0][:-1]) is None


def test_latest_passes_over_what_is_not_meant_unless_that_is_all() -> None:
    """A name means what it names, idle or not."""
    assert resolve_run("latest", KNOWN, passed=lambda run: run == KNOWN[2]) == KNOWN[1]
    assert resolve_run("latest", KNOWN, passed=lambda _: True) == KNOWN[2]
    assert resolve_run(KNOWN[2], KNOWN, passed=lambda _: True) == KNOWN[2]
