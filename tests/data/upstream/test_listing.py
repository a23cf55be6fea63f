"""Listings of sources, before any file is downloaded."""

from __future__ import annotations

import pytest

from trainer.base.errors import DatasetError
from trainer.data.upstream.listing import RemoteFile, UpstreamListing, checked_listing


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "a/b")])
def test_two_paths_that_collide_are_rejected_with_a_way_to_import_one_of_them(paths: tuple[str, str]) -> None:
    listing = UpstreamListing(files=tuple(RemoteFile(path=path, size=1) for path in paths))
    with pytest.raises(DatasetError, match="lists 'a' twice, or as both a file and a folder") as caught:
        checked_listing(listing, "https://data.lab")
    assert "rename one of them" in str(caught.value.hint)
    assert "import a folder that contains only one of them" in str(caught.value.hint)


def test_files_are_sorted_by_path() -> None:
    listing = UpstreamListing(files=tuple(RemoteFile(path=path, size=1) for path in ("b", "a/c", "a/b")))
    found = checked_listing(listing, "https://data.lab")
    assert [file.path for file in found.files] == ["a/b", "a/c", "b"]
