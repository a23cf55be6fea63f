"""The head of a `.npy` file, read as NumPy writes it."""

from __future__ import annotations

import io

import pytest

from trainer.data.npy import ArrayHead, parse_head
from trainer.errors import DatasetError

np = pytest.importorskip("numpy", reason="needs NumPy, of the lock's extra `cpu`")


def written(array: object) -> bytes:
    """A file as NumPy writes it."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int64", "float16", "float32", "float64"])
def test_a_head_tells_what_numpy_wrote(dtype: str) -> None:
    """Type, shape, where the numbers begin, and how long a row is."""
    array = np.zeros((5, 2, 3), dtype=dtype)
    data = written(array)
    head = parse_head(data, size=len(data), where="x.npy")
    assert head == ArrayHead(dtype=dtype, shape=(5, 2, 3), start=len(data) - array.nbytes, row=array.nbytes // 5)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x93NUMPY", "its head cannot be read"),
        (b"PK\x03\x04 an archive", "its head cannot be read"),
        (written(np.float32(1)), "it is one number"),
        (written(np.zeros(3, dtype=">f4")), "big-endian"),
        (written(np.asfortranarray(np.zeros((3, 4)))), "of columns"),
        (written(np.zeros(3)) + b"x", "its head tells"),
        (written(np.zeros(3, dtype=[("a", "f4")])), "its head cannot be read"),
    ],
)
def test_what_is_no_plain_array_is_refused(data: bytes, why: str) -> None:
    """By the file's name, with the reason."""
    with pytest.raises(DatasetError, match=rf"x\.npy is no plain array: .*{why}"):
        parse_head(data, size=len(data), where="x.npy")
