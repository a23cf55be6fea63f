"""Accepted and rejected relative paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.base.paths import collision, path_fault, repository_parts


@pytest.mark.parametrize("path", ["a", "a/b.py", "übung/ä b.txt", "..a/b..", "a" * 255, "a/" * 511 + "aa"])
def test_ordinary_paths_are_acceptable(path: str) -> None:
    assert path_fault(path) is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../x",
        "a//b",
        "./a",
        "a/",
        "a\\b",
        "a\nb",
        "a\x00b",
        "a\x7f",
        "\udcff",
        "a" * 256,
        "a/" * 600 + "a",
        "a/" * 511 + "aaa",
    ],
)
def test_escaping_or_ambiguous_paths_are_rejected(path: str) -> None:
    assert path_fault(path)


@given(st.lists(st.sampled_from(["a", "b", "..", ".", "", "c\\d", "x\ty"]), min_size=1, max_size=5))
def test_an_acceptable_path_stays_below_its_folder(parts: list[str]) -> None:
    path = "/".join(parts)
    if path_fault(path) is None:
        assert not {"", ".", ".."} & set(path.split("/"))


def test_conflicting_paths_are_named() -> None:
    assert collision(["a", "b/c", "b/d"]) is None
    assert collision(["a", "a"]) == "a"
    assert collision(["a", "a/b"]) == "a"
    assert collision(["a/b/c", "a/b"]) == "a/b"


@pytest.mark.parametrize(("path", "message"), [("/etc", "an absolute path"), ("/", "an absolute path"), ("", "empty")])
def test_the_error_names_the_problem_of_a_path(path: str, message: str) -> None:
    assert path_fault(path) == message


def test_a_source_that_is_a_bare_repository_is_recognized() -> None:
    assert repository_parts(["HEAD", "objects/x", "refs/x"]) == {"HEAD"}
    assert repository_parts(["HEAD", "objects/x"]) == set()
