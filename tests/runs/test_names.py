"""Names of runs on the command line."""

from __future__ import annotations

import pytest

from trainer.base.errors import RunNotFoundError, UsageError
from trainer.runs.names import full_run_id, resolve_run

KNOWN = ["20260301t120000-aaaaaa", "20260301t120000-bbbbbb", "20260302t080000-cccccc"]


@pytest.mark.parametrize(
    ("word", "run"),
    [("latest", KNOWN[2]), (KNOWN[0], KNOWN[0]), ("20260302", KNOWN[2]), (f"runs/{KNOWN[1]}/", KNOWN[1])],
)
def test_an_id_a_prefix_latest_and_a_folder_name_a_run(word: str, run: str) -> None:
    assert resolve_run(word, KNOWN) == run


def test_an_ambiguous_prefix_lists_the_runs() -> None:
    with pytest.raises(UsageError, match="matches 2 runs: 20260301t120000-aaaaaa, 20260301t120000-bbbbbb"):
        resolve_run("20260301", KNOWN)


def test_an_error_about_many_matching_runs_names_the_newest() -> None:
    many = [f"20260301t12000{number}-aaaaaa" for number in range(5)]
    with pytest.raises(UsageError, match=f"matches 5 runs; the newest are {', '.join(many[2:])}"):
        resolve_run("2026", many)


@pytest.mark.parametrize(
    ("word", "hint"), [("20260302t080001-cccccc", KNOWN[2]), ("zzz", "newest is"), ("", "newest is")]
)
def test_an_unknown_run_suggests_the_nearest_id(word: str, hint: str) -> None:
    with pytest.raises(RunNotFoundError) as error:
        resolve_run(word, KNOWN)
    assert hint in str(error.value.hint)


def test_without_runs_the_hint_is_to_train() -> None:
    with pytest.raises(RunNotFoundError) as error:
        resolve_run("latest", [])
    assert "train" in str(error.value.hint)


def test_only_a_complete_id_may_refer_to_another_machine() -> None:
    assert full_run_id(KNOWN[0]) == KNOWN[0]
    assert full_run_id(KNOWN[0][:-1]) is None


def test_latest_skips_excluded_runs_unless_there_are_no_others() -> None:
    assert resolve_run("latest", KNOWN, passed=lambda run: run == KNOWN[2]) == KNOWN[1]
    assert resolve_run("latest", KNOWN, passed=lambda _: True) == KNOWN[2]
    assert resolve_run(KNOWN[2], KNOWN, passed=lambda _: True) == KNOWN[2]
