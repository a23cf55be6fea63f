"""Pictures in the formats of MNIST and CIFAR become `.npy` arrays."""

from __future__ import annotations

import gzip
import struct
from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import DatasetError
from trainer.data.file_formats import parse_head
from trainer.data.upstream.picture_arrays import IdxFiles, RecordFiles, write_arrays

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IDX = IdxFiles(files={"train": ("ti.gz", "tl.gz"), "test": ("ei.gz", "el.gz")}, shape=(1, 2, 3), classes={"label": 10})
RECORDS = RecordFiles(
    files={"train": ("a.bin", "b.bin"), "test": ("t.bin",)}, shape=(3, 2, 2), classes={"coarse": 2, "label": 5}
)
PICTURE, LABEL = 0x803, 0x801


def idx(magic: int, *lengths: int, body: bytes) -> bytes:
    return gzip.compress(struct.pack(f">{1 + len(lengths)}I", magic, *lengths) + body, mtime=0)


def idx_pair(pictures: list[bytes], labels: bytes, *, height: int, width: int) -> tuple[bytes, bytes]:
    """Return a file of pictures and a file of their labels."""
    images = idx(PICTURE, len(pictures), height, width, body=b"".join(pictures))
    return images, idx(LABEL, len(labels), body=labels)


def values(path: Path) -> tuple[str, tuple[int, ...], bytes]:
    data = path.read_bytes()
    head = parse_head(data, size=len(data), where=path.name)
    return head.dtype, head.shape, data[head.start :]


def write_idx(folder: Path) -> None:
    for prefix, pictures, labels in (("t", [b"abcdef", b"ghijkl"], b"\x09\x00"), ("e", [b"mnopqr"], b"\x03")):
        for kind, data in zip("il", idx_pair(pictures, labels, height=2, width=3), strict=True):
            (folder / f"{prefix}{kind}.gz").write_bytes(data)


def write_records(folder: Path) -> None:
    for name, records in {"a": [(1, 4)], "b": [(0, 0), (1, 2)], "t": [(0, 3)]}.items():
        (folder / f"{name}.bin").write_bytes(b"".join(bytes(labels) + (name * 12).encode() for labels in records))


def test_idx_files_become_arrays(tmp_path: Path) -> None:
    write_idx(tmp_path)
    assert write_arrays(IDX, tmp_path, tmp_path / "out") == {"train": (0, 2), "test": (2, 3)}
    assert values(tmp_path / "out" / "image.npy") == ("uint8", (3, 1, 2, 3), b"abcdefghijklmnopqr")
    assert values(tmp_path / "out" / "label.npy") == ("int64", (3,), struct.pack("<3q", 9, 0, 3))


def test_records_become_arrays(tmp_path: Path) -> None:
    write_records(tmp_path)
    assert write_arrays(RECORDS, tmp_path, tmp_path / "out") == {"train": (0, 3), "test": (3, 4)}
    assert values(tmp_path / "out" / "image.npy") == ("uint8", (4, 3, 2, 2), b"a" * 12 + b"b" * 24 + b"t" * 12)
    assert values(tmp_path / "out" / "coarse.npy")[2] == struct.pack("<4q", 1, 0, 1, 0)
    assert values(tmp_path / "out" / "label.npy")[2] == struct.pack("<4q", 4, 0, 2, 3)


def test_many_pictures_are_converted_in_blocks(tmp_path: Path) -> None:
    pictures = [struct.pack(">Q", number * 0x9E3779B97F4A)[2:] for number in range(10_000)]
    labels = bytes(number % 7 for number in range(10_000))
    write_idx(tmp_path)
    for name, data in zip(IDX.files["train"], idx_pair(pictures, labels, height=2, width=3), strict=True):
        (tmp_path / name).write_bytes(data)
    assert write_arrays(IDX, tmp_path, tmp_path / "out")["train"] == (0, 10_000)
    assert values(tmp_path / "out" / "image.npy")[2] == b"".join(pictures) + b"mnopqr"
    assert values(tmp_path / "out" / "label.npy")[2] == struct.pack("<10001q", *labels, 3)


def test_numpy_reads_the_arrays(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy", reason="needs NumPy, of the lock's extra `cpu`")
    write_records(tmp_path)
    write_arrays(RECORDS, tmp_path, tmp_path / "out")
    assert np.load(tmp_path / "out" / "image.npy")[3, 2, 1].tobytes() == b"tt"
    assert np.load(tmp_path / "out" / "label.npy").tolist() == [4, 0, 2, 3]


def cut(data: bytes) -> bytes:
    return data[:-12]


def damaged(data: bytes) -> bytes:
    return data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("ti.gz", cut, "ti.gz: it is damaged (Compressed file ended"),
        ("ti.gz", damaged, "ti.gz: it is damaged (CRC check failed"),
        ("tl.gz", lambda _: b"<html>", "tl.gz: it is damaged (Not a gzipped file"),
        ("ti.gz", lambda _: idx(PICTURE, 2, 2, 3, body=b"x" * 11), "ti.gz: it ends 1 bytes early"),
        ("ti.gz", lambda _: gzip.compress(b"\0\0\x08"), "ti.gz: it ends 13 bytes early"),
        ("ti.gz", lambda _: idx(PICTURE, 2, 2, 3, body=b"x" * 13), "ti.gz: bytes follow its values"),
        ("ti.gz", lambda _: idx(0xD03, 2, 2, 3, body=b"x" * 12), "magic number is 0x00000d03; expected 0x00000803"),
        ("ti.gz", lambda _: idx(PICTURE, 2, 3, 2, body=b"x" * 12), "shape is [2, 3, 2]; expected [rows, 2, 3]"),
        ("ti.gz", lambda _: idx(PICTURE, 0, 2, 3, body=b""), "shape is [0, 2, 3]; expected [rows, 2, 3]"),
        ("ti.gz", lambda _: idx(PICTURE, 2**32 - 1, 2, 3, body=b"x"), "it has 2 labels; expected 4,294,967,295"),
        ("tl.gz", lambda _: idx(LABEL, 3, body=b"\0\0\0"), "it has 3 labels; expected 2, one for each picture"),
        ("tl.gz", lambda _: idx(LABEL, 2, body=b"\0\x0a"), "label of picture 1: it is 10; expected 0 to 9"),
    ],
)  # fmt: skip
def test_another_format_of_idx_is_an_error(
    tmp_path: Path, name: str, data: Callable[[bytes], bytes], message: str
) -> None:
    write_idx(tmp_path)
    (tmp_path / name).write_bytes(data((tmp_path / name).read_bytes()))
    with pytest.raises(DatasetError) as caught:
        write_arrays(IDX, tmp_path, tmp_path / "out")
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "b.bin: the file is missing"),
        (b"", "b.bin: it has 0 bytes; expected records of 14 bytes"),
        (bytes(27), "b.bin: it has 27 bytes; expected records of 14 bytes"),
        (b"\x02" + bytes(13), "coarse of picture 1: it is 2; expected 0 to 1"),
        (b"\0\x05" + bytes(12), "label of picture 1: it is 5; expected 0 to 4"),
    ],
)
def test_another_format_of_records_is_an_error(tmp_path: Path, data: bytes | None, message: str) -> None:
    write_records(tmp_path)
    (tmp_path / "b.bin").unlink()
    if data is not None:
        (tmp_path / "b.bin").write_bytes(data)
    with pytest.raises(DatasetError) as caught:
        write_arrays(RECORDS, tmp_path, tmp_path / "out")
    assert message in caught.value.message
