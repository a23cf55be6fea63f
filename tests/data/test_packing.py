"""Files are assigned to packs, and equal files always give the same manifest."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

from tests.data.manifests import hashed, laid
from trainer.base.digest import digest_of_bytes
from trainer.data.manifest_lines import Listing
from trainer.data.packing import PACK_BYTES, DigestIndex, PackPlan, Slice

ONE, OTHER = hashed("a", b"one"), hashed("b/c", b"three")


def spans(plan: list[list[Slice]]) -> list[list[tuple[str, int, int]]]:
    """Return path, start and length of each slice of each pack."""
    return [[(each.path, each.start, each.length) for each in slices] for slices in plan]


def test_small_files_share_packs_in_path_order() -> None:
    third = PACK_BYTES // 3
    plan, _ = laid(*(hashed(name, name.encode(), size=third) for name in "abcd"))
    assert [[each.path for each in slices] for slices in plan] == [["a", "b", "c"], ["d"]]


def test_a_large_file_is_split_into_parts() -> None:
    plan, raw = laid(hashed("a", b"1"), hashed("big", size=PACK_BYTES + 5), hashed("c", b"2"))
    assert spans(plan) == [[("a", 0, 1), ("c", 0, 1)], [("big", 0, PACK_BYTES)], [("big", PACK_BYTES, 5)]]
    assert [pack.size for pack in Listing(raw).packs] == [2, PACK_BYTES, 5]


def test_a_file_of_exactly_one_pack_is_not_split() -> None:
    assert spans(laid(hashed("a", size=PACK_BYTES))[0]) == [[("a", 0, PACK_BYTES)]]


def test_known_repeated_and_empty_files_need_no_pack() -> None:
    _, before = laid(ONE, OTHER)
    files = (ONE, hashed("b", b"new"), hashed("c", b"new"), hashed("d", b""), hashed("e", b"three"))
    plan, raw = laid(*files, known=before)
    assert spans(plan) == [[("b", 0, 3)]]
    listing, old = Listing(raw), Listing(before).packs[0]
    assert [(each.pack == old, each.offset) for file in listing for each in file.segments] == [
        (True, 0),
        (False, 0),
        (False, 0),
        (True, 3),
    ]
    assert listing[3].segments == ()


def test_equal_parts_are_one_pack() -> None:
    _, raw = laid(hashed("big", size=3 * PACK_BYTES + 5), hashed("c", b"1"))
    listing = Listing(raw)
    assert [pack.size for pack in listing.packs] == [PACK_BYTES, 5, 1]
    assert [listing.packs.index(each.pack) for each in listing[0].segments] == [0, 0, 0, 1]
    assert listing.packs.index(listing[1].segments[0].pack) == 2


def test_the_manifest_of_given_files_never_changes() -> None:
    files = [
        hashed("a", b"1"),
        hashed('b "q"', size=2 * PACK_BYTES + 7),
        hashed("c/d", b"2"),
        hashed("c/e", b""),
        hashed("c/f", b"1"),
        hashed("ü", b"3", size=PACK_BYTES - 1),
    ]
    _, raw = laid(*files, known=laid(ONE, hashed("z", b"2"), hashed("zz", size=2 * PACK_BYTES + 7))[1])
    assert digest_of_bytes(raw) == "sha256:ebc42a027b5a4a41c8b8afc9b2572359a14beaa57d22dd84c9f0a5ba90dc1fc4"


def test_a_packed_file_needs_at_most_100_bytes_of_memory() -> None:
    count = 5_000
    with Path(os.devnull).open("wb") as nowhere:
        packs = PackPlan(nowhere)
        tracemalloc.start()
        for number in range(count):
            packs.add(hashed(f"{number:08d}", b"%d" % number))
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert kept < 100 * count


def test_each_digest_has_one_number_in_the_order_of_addition() -> None:
    count = 3000  # more than the first table has slots for
    index, digests = DigestIndex(), [digest_of_bytes(b"%d" % number) for number in range(count)]
    assert [index.add(digest) for digest in digests] == list(range(count))
    assert [index.add(digest) for digest in reversed(digests)] == list(reversed(range(count)))
    assert len(index) == count
