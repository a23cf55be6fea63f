"""Manifests: valid content, and byte-identical regeneration."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.manifests import hashed_file, manifest_of, pack_files
from trainer.base.digest import canonical, digest_of_bytes
from trainer.base.errors import ManifestError
from trainer.base.paths import path_fault
from trainer.data.file_names import _is_plain
from trainer.data.manifest import parse_manifest
from trainer.data.manifest_lines import ManifestFiles, Pack, Paths, Segment


def rewrite_line(manifest: bytes, line: int, **change: Any) -> bytes:
    """Return a manifest with changed values in one line."""
    lines = [json.loads(text) for text in manifest.splitlines()]
    for place_, value in change.items():
        lines[line][place_ if line == 0 else int(place_[1:])] = value
    return b"".join(canonical(value) + b"\n" for value in lines)


TWO = pack_files(hashed_file("a", b"one"), hashed_file("b/c", b"three"))[1]
PACK = ManifestFiles(TWO).packs[0]


def test_a_manifest_has_the_documented_form() -> None:
    head, first, second = [json.loads(line) for line in TWO.splitlines()]
    assert head == {
        "bytes": 8,
        "content": ManifestFiles(TWO).content(),
        "files": 2,
        "format": "reprise.manifest/1",
        "packs": [[PACK.sha256, 8]],
    }
    assert first == ["a", 3, digest_of_bytes(b"one"), [[0, 0, 3]]]
    assert second == ["b/c", 5, digest_of_bytes(b"three"), [[0, 3, 5]]]


PATHS = st.lists(
    st.text(min_size=1, max_size=12).filter(lambda text: path_fault(text) is None),
    unique_by=lambda text: text.casefold(),
)


@given(paths=PATHS)
def test_a_manifest_round_trips(paths: list[str]) -> None:
    try:
        _, data = pack_files(*(hashed_file(path, path.encode()) for path in sorted(paths, key=str.encode)))
    except ManifestError:
        return
    assert manifest_of(parse_manifest(data)) == data
    assert data == b"".join(canonical(json.loads(line)) + b"\n" for line in data.split(b"\n")[:-1])


@given(paths=PATHS, numbers=st.lists(st.integers(-9, 9), max_size=9))
def test_each_path_is_found_whichever_path_was_returned_last(paths: list[str], numbers: list[int]) -> None:
    try:
        _, data = pack_files(*(hashed_file(path, path.encode()) for path in sorted(paths, key=str.encode)))
    except ManifestError:
        return
    listing = parse_manifest(data)
    names, expected = Paths(listing), sorted(paths, key=str.encode)
    assert listing.find("") is None
    for number in numbers:
        if -len(paths) <= number < len(paths):
            assert names[number] == expected[number]
        assert [listing.find(path) for path in [*expected, "absent/0"]] == [*range(len(paths)), None]


def test_the_content_digest_does_not_depend_on_packs() -> None:
    pack = Pack(sha256=digest_of_bytes(b"other"), size=100)
    moved = manifest_of(
        replace(each, segments=(Segment(pack=pack, offset=9, length=each.size),)) for each in ManifestFiles(TWO)
    )
    assert parse_manifest(moved).head["content"] == ManifestFiles(TWO).head["content"] == ManifestFiles(moved).content()
    assert moved != TWO


HOSTILE = [
    "",
    "/etc/passwd",
    "../x",
    "a/../../x",
    "a//b",
    "./a",
    "a/",
    "a\\b",
    "a\x00b",
    "a\nb",
    "n" * 256,
    "d/" * 600 + "x",
    "a/.",
    "\ud800",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_an_escaping_or_impossible_path_is_rejected(path: str) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(rewrite_line(TWO, 1, _0=path) if path != "\ud800" else TWO.replace(b'"a"', b'"\\ud800"'))


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("a", "a", "is repeated"),
        ("b", "a", "out of order"),
        ("README", "readme", "one file on some file systems"),
        ("e\u0301", "\u00e9", "one file on some file systems"),
        ("stra\u00dfe", "strasse", "one file on some file systems"),
        ("a", "a/b", "also a folder"),
        ("A", "a/b", "also a folder"),
    ],
)
def test_conflicting_paths_are_rejected(one: str, other: str, why: str) -> None:
    files = [hashed_file(one, b"1"), hashed_file(other, b"1")]
    if why.startswith("one file"):
        files.sort(key=lambda each: each.path.encode())
    with pytest.raises(ManifestError, match=why):
        pack_files(*files)


@pytest.mark.parametrize(
    ("line", "change"),
    [
        (0, {"format": "reprise.manifest/2"}),
        (0, {"files": 3}),
        (0, {"bytes": 9}),
        (0, {"content": digest_of_bytes(b"")}),
        (0, {"extra": 1}),
        (0, {"packs": []}),
        (0, {"packs": [[PACK.sha256, 7]]}),
        (0, {"packs": [[PACK.sha256, 8], [digest_of_bytes(b""), 1]]}),
        (1, {"_1": 4}),
        (1, {"_1": -3}),
        (1, {"_1": True}),
        (1, {"_2": "sha256:ABC"}),
        (1, {"_3": [[0, 0, 4]]}),
        (1, {"_3": [[0, -1, 3]]}),
        (1, {"_3": [[0, 6, 3]]}),
        (1, {"_3": [[1, 0, 3]]}),
        (1, {"_3": [[0, 0, 3], [0, 0, 0]]}),
        (1, {"_3": [[0, 0]]}),
    ],
)
def test_an_inconsistent_manifest_is_rejected(line: int, change: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(rewrite_line(TWO, line, **change))


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data + b"\n",
        lambda data: data.replace(b",", b", ", 1),
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: b"\xff" + data,
        lambda _: b"[" * 100_000 + b"\n",
        lambda data: data.replace(b'"a"', b'"\\u0061"'),
    ],
)
def test_a_non_canonical_manifest_is_rejected(damage: Any) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(damage(TWO))


@given(path=st.text(alphabet="ab./-\\\0 \n~é", max_size=8))
def test_the_fast_path_for_plain_names_agrees_with_the_rules(path: str) -> None:
    assert not _is_plain(path) or path_fault(path) is None
