"""Manipulated arrays, tables and pictures are rejected by name, in bounded memory."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.cli.data.conftest import typed
from tests.training.readers.picture_files import png, save_picture
from trainer.base.errors import DatasetError
from trainer.data.file_formats import parse_head
from trainer.data.files import Files
from trainer.data.reader import MOST_PIXELS, ImagesReader, TableReader
from trainer.training.readers import tables
from trainer.training.readers.images import decode_pixels
from trainer.training.readers.tables import TableRows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["typed"]
pytestmark = pytest.mark.torch
PICTURES = ImagesReader.model_validate({"kind": "images"})


def npy_header(shape: Any, *, kind: Any = "<f8") -> bytes:
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text


SHAPES = [
    (-2, -3),
    (10**9, 0),
    (0, 2**47, 2**47),
    (2**70,),
    (0, 10**300),
    (0, *[1] * 64),
    (1.5,),
    ("a",),
    ((),),
    -1,
    None,
]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_npy_header_without_a_valid_array_is_rejected(shape: Any) -> None:
    with pytest.raises(DatasetError, match=r"a\.npy is not a plain array"):
        parse_head(npy_header(shape), size=len(npy_header(shape)), where="a.npy")


@pytest.mark.parametrize("kind", ["|O", [("a", "|O")], "<U9", "<m8", "<M8[s]", "|V8", "=f16", "x" * 10_000, 1, None])
def test_an_npy_header_of_another_type_is_rejected(kind: Any) -> None:
    with pytest.raises(DatasetError, match=r"a\.npy is not a plain array"):
        parse_head(npy_header((1,), kind=kind), size=len(npy_header((1,), kind=kind)) + 8, where="a.npy")


@pytest.mark.parametrize(
    "text", [b"(" * 30_000, b"{" + b"'a':{" * 5000, b"-" * 60_000 + b"1", b"9" * 60_000, b"\xff\x00"]
)
def test_an_npy_header_that_is_not_a_dictionary_is_rejected(text: bytes) -> None:
    body = b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text)) + text
    with pytest.raises(DatasetError, match="its header is damaged"):
        parse_head(body, size=len(body), where="a.npy")


@pytest.mark.parametrize("shape", [(-2, -3), (10**9, 0), (2**70, 2**70)])
def test_an_invalid_array_is_not_published(
    typed: Callable[..., tuple[int, str, str]], tmp_path: Path, shape: Any
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x.npy").write_bytes(npy_header(shape))
    code, _, err = typed("publish", "bad", "d", "--array", "x=x.npy")
    assert (code, "x.npy is not a plain array" in err) == (44, True)


class OneFile(Files):
    """A single file in memory."""

    paths = ("t.parquet",)

    def __init__(self, body: bytes) -> None:
        self.body = body

    def view(self, _: str, /) -> memoryview:
        return memoryview(self.body)

    def folder(self) -> Path:
        raise NotImplementedError


def open_table(body: bytes, *columns: str) -> TableRows:
    fields = {name: {"column": name} for name in columns}
    reader = TableReader.model_validate({"kind": "table", "files": ["t.parquet"], "fields": fields})
    return TableRows(reader, OneFile(body))


def parquet_file(**columns: Any) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table(columns), target)
    return target.getvalue()


def test_a_row_group_that_expands_when_decoded_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million equal values take only a few kilobytes in a file."""
    body = parquet_file(x=np.zeros(1_000_000))
    monkeypatch.setattr(tables, "MOST_DECODED", 1 << 20)
    (block,) = open_table(body, "x").blocks(np.arange(1_000_000))
    assert len(body) < 20_000
    assert block.fault is not None
    error = block.fault if not callable(block.fault) else block.fault(0)
    assert "row group 1 of t.parquet has 1,000,000 rows, which take 8,000,000 bytes" in error.message
    assert "row_group_size=" in str(error.hint)


def test_a_column_of_one_repeated_long_text_is_rejected_in_bounded_memory() -> None:
    text = pa.DictionaryArray.from_arrays(np.zeros(1_000_000, dtype=np.int32), ["x" * 100_000])
    with pytest.raises(DatasetError, match="holds numbers"):
        next(open_table(parquet_file(x=text), "x").blocks(np.arange(10)))


def png_with_chunks(**chunks: bytes) -> bytes:
    """Return a PNG of a single pixel, with additional chunks before its data."""
    whole = save_picture(np.zeros((1, 1, 3), dtype=np.uint8), "PNG")
    parts = [
        struct.pack(">I", len(body)) + kind.encode() + body + struct.pack(">I", zlib.crc32(kind.encode() + body))
        for kind, body in chunks.items()
    ]
    return whole[:33] + b"".join(parts) + whole[33:]


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(run) =\nshowpage\n"
HUGE = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 60_000, 60_000, 8, 2, 0, 0, 0) + bytes(4)
REJECTED = {
    "EPS under another name": EPS,
    "60,000 x 60,000": HUGE,
    "text bomb": png_with_chunks(zTXt=b"a\0\0" + zlib.compress(bytes(100_000_000))),
    "international text bomb": png_with_chunks(iTXt=b"a\0\1\0\0\0" + zlib.compress(bytes(100_000_000))),
    "color profile bomb": png_with_chunks(iCCP=b"a\0\0" + zlib.compress(bytes(50_000_000))),
    "invalid chunk": png_with_chunks(**{"\x00\x01ab": b"x"}),
    "empty": b"",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "PSD": b"8BPS\0\1" + bytes(40),
    "BLP": b"BLP2\1\0\0\0" + bytes(200),
    "more than the most pixels": b"P5 %d 2 255\n" % (MOST_PIXELS // 2 + 1),
    "plain text of more values than are read": b"P2 8000 4000 65535\n" + b"1 " * 1000,
}


@pytest.mark.parametrize("case", REJECTED)
def test_an_expensive_picture_is_rejected_by_name(case: str) -> None:
    with pytest.raises(DatasetError, match=r"^c/a\.png "):
        decode_pixels(REJECTED[case], PICTURES, where="c/a.png")


def test_a_broken_chunk_in_a_published_picture_names_its_file(
    typed: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "d" / "cat").mkdir(parents=True)
    whole = png(np.random.default_rng(0).integers(0, 65536, (40, 40, 3)), color=2)
    at = whole.index(b"IDAT") + 1000
    (tmp_path / "d" / "cat" / "good.png").write_bytes(save_picture(Image.new("RGB", (40, 40)), "PNG"))
    (tmp_path / "d" / "cat" / "bad.png").write_bytes(whole[:at] + b"\0\0\0\4\0\1\2\3abcd" + whole[at:])
    code, _, err = typed("publish", "pics", "d", "--images", ".")
    assert (code, "cat/bad.png" in err) == (44, True)
