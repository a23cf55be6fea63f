"""Parsing of `.npy` headers: headers that NumPy writes, and unsupported or damaged headers."""

from __future__ import annotations

import io

import pytest

from trainer.base.errors import DatasetError
from trainer.data.file_formats import ArrayHead, parse_head

np = pytest.importorskip("numpy", reason="needs NumPy, of the lock's extra `cpu`")


def npy_file(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int64", "float16", "float32", "float64"])
def test_a_header_written_by_numpy_is_parsed(dtype: str) -> None:
    array = np.zeros((5, 2, 3), dtype=dtype)
    data = npy_file(array)
    head = parse_head(data, size=len(data), where="x.npy")
    assert head == ArrayHead(dtype=dtype, shape=(5, 2, 3), start=len(data) - array.nbytes, row=array.nbytes // 5)


def npy_with_header(shape: str, *, descr: str = "'<f4'", body: int = 0) -> bytes:
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(body)


@pytest.mark.parametrize(
    ("data", "why", "fix"),
    [
        (b"", "it is empty", "numpy.save"),
        (b"\x93NUMPY", "its header is damaged", "numpy.save"),
        (b"PK\x03\x04 an archive", r"an archive of arrays \(.npz\)", "numpy.load(FILE).items()"),
        (b"a,b\n1,2\n", "it is not a NumPy file", "numpy.save"),
        (npy_file(np.float32(1)), "it is one number", "reshape(-1)"),
        (npy_file(np.zeros(3, dtype=">f4")), "big-endian", "a.astype('<f4')"),
        (npy_file(np.zeros(3, dtype=">i8")), "big-endian", "a.astype('<i8')"),
        (npy_file(np.asfortranarray(np.zeros((3, 4)))), "Fortran order", "numpy.ascontiguousarray(a)"),
        (npy_file(np.zeros(3) + 1j), "complex", "a.real, a.imag"),
        (npy_file(np.array(["a", "bc"])), "it holds text", "numpy.unique"),
        (npy_file(np.array([b"a", b"bc"])), "it holds text", "numpy.unique"),
        (npy_file(np.array(["2024-01-01"], dtype="M8[D]")), "it holds dates", "a.astype('int64')"),
        (npy_file(np.array([3], dtype="m8[s]")), "it holds durations", "a.astype('int64')"),
        (npy_file(np.array([None, 1])), "it holds Python objects", "a.astype('float32')"),
        (npy_file(np.zeros(3, dtype=np.longdouble)), "more than 64 bits", "a.astype('float64')"),
        (npy_file(np.zeros(3, dtype=[("a", "f4")])), "structured array", "a['NAME']"),
        (npy_file(np.zeros(3)) + b"x", "bytes by its header", "truncated or damaged"),
        (npy_with_header("(-2, -3)", body=24), r"the shape \(-2, -3\)", "numpy.save"),
        (npy_with_header("(10**9,)"), "its header is damaged", "numpy.save"),
        (npy_with_header("(1000000000, 0)"), "its rows are empty", "write at least one value in each row"),
        (npy_with_header(f"({10**30}, 2)"), "the shape", "numpy.save"),
        (npy_with_header("(2, 1e400)"), "its header is damaged", "numpy.save"),
        (npy_with_header("(2," * 3000 + ")" * 3000), "its header is damaged", "numpy.save"),
        (npy_with_header("(3,)", descr="'<f4', 'a': [" + "0," * 20000 + "]"), "its head", "numpy.save"),
        (npy_with_header("'12'", body=8), "its header is damaged", "numpy.save"),
        (npy_with_header("(2.5,)", body=8), "its header is damaged", "numpy.save"),
    ],
)
def test_an_unsupported_array_is_rejected_with_the_reason_and_the_fix(data: bytes, why: str, fix: str) -> None:
    with pytest.raises(DatasetError, match=rf"x\.npy is not a plain array: .*{why}") as caught:
        parse_head(data, size=len(data), where="x.npy")
    assert fix in str(caught.value.hint)


def test_an_array_without_rows_is_read() -> None:
    data = npy_file(np.zeros((0, 4), dtype=np.float32))
    assert parse_head(data, size=len(data), where="x.npy").rows == 0
