"""Groups of chunks: each chunk is in one group, whose bytes are adjacent in a pack; every process finds the same groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.data.streams import published
from trainer.data.chunks import Chunks
from trainer.data.packing import PACK_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.cache.streamed import StreamedDataset
    from trainer.data.chunks import ChunkGroup

SIZE = 5000


@pytest.fixture
def files(tmp_path: Path) -> StreamedDataset:
    random = np.random.default_rng(0)
    bodies = {f"{number:03}": random.bytes(SIZE) for number in range(60)}
    bodies |= {"003": b"", "010": b"", "020": bodies["007"], "030": random.bytes(PACK_BYTES + 100), "059": b""}
    return published(tmp_path, bodies).open(PACK_BYTES)


def ids(files: StreamedDataset) -> list[int]:
    return [each for path in files.paths for each in files.chunk_ids(path, 0, files.size(path))]


def groups(files: StreamedDataset) -> list[ChunkGroup]:
    found = files.chunks.group_ids(np.array(ids(files), dtype=np.int64))
    return [files.chunks.group(each) for each in dict.fromkeys(found.tolist())]


def test_each_chunk_is_in_one_group_of_adjacent_bytes(files: StreamedDataset) -> None:
    starts = ids(files)[::8]
    files.regroup(starts)
    assert [chunk.id for group in groups(files) for chunk in group.chunks] == ids(files)
    for group in groups(files):
        ends = [chunk.segments[0].offset + chunk.size for chunk in group.chunks]
        assert [chunk.segments[0].offset for chunk in group.chunks][1:] == ends[:-1]
        assert len({chunk.segments[0].pack for chunk in group.chunks}) == 1
        assert not {chunk.id for chunk in group.chunks[1:]} & {*starts}
        assert [group.find(chunk.id)[0] for chunk in group.chunks] == [*group.chunks]
    assert len(groups(files)) < 15


def test_a_group_is_found_by_the_name_of_its_file(files: StreamedDataset) -> None:
    files.regroup(ids(files)[::8])
    known = {each.name: each.id for each in groups(files)}
    assert len(known) == len(groups(files))
    assert {each.name: each.id for each in files.chunks.files({*known}) if each.id >= 0} == known


def test_files_of_other_groups_have_no_chunk(files: StreamedDataset) -> None:
    files.regroup(ids(files)[::8])
    before = {each.name for each in groups(files)}
    files.regroup(())
    singles = {each.name for each in groups(files)}
    assert {each.name for each in files.chunks.files(before) if each.id < 0} == before - singles
    files.regroup(ids(files)[::8])
    others = [*files.chunks.files(singles - before)]
    assert {each.name for each in others} == singles - before
    assert all(each.id < 0 for each in others)
    assert len({each.id for each in others}) == len(others)


def test_a_group_has_a_largest_size(files: StreamedDataset) -> None:
    files.chunks.regroup([ids(files)[0]], most=3 * SIZE)
    assert max(each.size for each in groups(files) if len(each.chunks) > 1) == 3 * SIZE


def test_another_process_finds_the_same_groups(files: StreamedDataset) -> None:
    files.regroup(ids(files)[::8])
    listing = files.source.cache.manifest(files.dataset)
    assert listing is not None
    other = Chunks(listing)
    other.regroup(ids(files)[::8], most=files.source.budget.limit // 16)
    assert [other.group_of(each).name for each in ids(files)] == [
        files.chunks.group_of(each).name for each in ids(files)
    ]
