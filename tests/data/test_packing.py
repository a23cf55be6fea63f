"""Files are assigned to packs, and equal files always result in the same manifest."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

from tests.data.manifests import hashed_file, pack_files
from trainer.base.digest import digest_of_bytes
from trainer.data.manifest_lines import ManifestFiles
from trainer.data.packing import PACK_BYTES, DigestIndex, PackPlan, Slice

ONE, OTHER = hashed_file("a", b"one"), hashed_file("b/c", b"three")


def pack_spans(plan: list[list[Slice]]) -> list[list[tuple[str, int, int]]]:
    """Return the path, start and length of each slice of each pack."""
    return [[(each.path, each.start, each.length) for each in slices] for slices in plan]


def test_small_files_share_packs_in_path_order() -> None:
    third = PACK_BYTES // 3
    plan, _ = pack_files(*(hashed_file(name, name.encode(), size=third) for name in "abcd"))
    assert [[each.path for each in slices] for slices in plan] == [["a", "b", "c"], ["d"]]


def test_a_large_file_is_split_into_parts() -> None:
    plan, raw = pack_files(hashed_file("a", b"1"), hashed_file("big", size=PACK_BYTES + 5), hashed_file("c", b"2"))
    assert pack_spans(plan) == [[("a", 0, 1), ("c", 0, 1)], [("big", 0, PACK_BYTES)], [("big", PACK_BYTES, 5)]]
    assert [pack.size for pack in ManifestFiles(raw).packs] == [2, PACK_BYTES, 5]


def test_a_file_of_exactly_one_pack_is_not_split() -> None:
    assert pack_spans(pack_files(hashed_file("a", size=PACK_BYTES))[0]) == [[("a", 0, PACK_BYTES)]]


def test_known_repeated_and_empty_files_need_no_pack() -> None:
    _, before = pack_files(ONE, OTHER)
    files = (ONE, hashed_file("b", b"new"), hashed_file("c", b"new"), hashed_file("d", b""), hashed_file("e", b"three"))
    plan, raw = pack_files(*files, known=before)
    assert pack_spans(plan) == [[("b", 0, 3)]]
    listing, old = ManifestFiles(raw), ManifestFiles(before).packs[0]
    assert [(each.pack == old, each.offset) for file in listing for each in file.segments] == [
        (True, 0),
        (False, 0),
        (False, 0),
        (True, 3),
    ]
    assert listing[3].segments == ()


def test_equal_parts_are_one_pack() -> None:
    _, raw = pack_files(hashed_file("big", size=3 * PACK_BYTES + 5), hashed_file("c", b"1"))
    listing = ManifestFiles(raw)
    assert [pack.size for pack in listing.packs] == [PACK_BYTES, 5, 1]
    assert [listing.packs.index(each.pack) for each in listing[0].segments] == [0, 0, 0, 1]
    assert listing.packs.index(listing[1].segments[0].pack) == 2


def test_the_manifest_of_given_files_never_changes() -> None:
    files = [
        hashed_file("a", b"1"),
        hashed_file('b "q"', size=2 * PACK_BYTES + 7),
        hashed_file("c/d", b"2"),
        hashed_file("c/e", b""),
        hashed_file("c/f", b"1"),
        hashed_file("ü", b"3", size=PACK_BYTES - 1),
    ]
    _, raw = pack_files(
        *files, known=pack_files(ONE, hashed_file("z", b"2"), hashed_file("zz", size=2 * PACK_BYTES + 7))[1]
    )
    assert digest_of_bytes(raw) == "sha256:ebc42a027b5a4a41c8b8afc9b2572359a14beaa57d22dd84c9f0a5ba90dc1fc4"


def test_a_packed_file_needs_at_most_100_bytes_of_memory() -> None:
    count = 5_000
    with Path(os.devnull).open("wb") as nowhere:
        packs = PackPlan(nowhere)
        tracemalloc.start()
        for number in range(count):
            packs.add(hashed_file(f"{number:08d}", b"%d" % number))
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert kept < 100 * count


def test_each_digest_has_one_number_in_the_order_of_addition() -> None:
    count = 3000  # more than the slots of the first table
    index, digests = DigestIndex(), [digest_of_bytes(b"%d" % number) for number in range(count)]
    assert [index.add(digest) for digest in digests] == list(range(count))
    assert [index.add(digest) for digest in reversed(digests)] == list(reversed(range(count)))
    assert len(index) == count
