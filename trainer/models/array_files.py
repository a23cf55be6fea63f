"""Arrays in files as the inputs of a net: one array in a `.npy` file, or one for each input in a `.npz` file."""

from __future__ import annotations

import json
import shlex
import tokenize
import zipfile
import zlib
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from PIL import Image

from trainer.base.errors import DatasetError
from trainer.base.suggestions import did_you_mean, listed

if TYPE_CHECKING:
    import io
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trainer.data.reader import Typed

Array = np.ndarray[Any, Any]
_DAMAGED: Final = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    NotImplementedError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Exceptions that NumPy raises for a file that is not an array or is damaged."""
_NPY: Final = b"\x93NUMPY"
_MARKS: Final = {_NPY: ".npy", b"PK\x03\x04": ".npz", b"PK\x05\x06": ".npz"}
"""The first bytes of files with arrays."""
_LONGEST_MARK: Final = max(map(len, _MARKS))
_SAVE: Final = 'numpy.save("samples.npy", ARRAY) writes a .npy file'
_WRITE: dict[bool, str] = {
    True: 'numpy.savez("samples.npz", {}) writes them',
    False: 'numpy.save("samples.npy", {}) writes it',
}


def arrays_in(
    file: Path,
    fields: Sequence[str],
    declared: Mapping[str, Typed],
    *,
    expected: str,
    content: io.BytesIO | None = None,
) -> dict[str, Array]:
    """Return an array `[samples, ...]` for each field from a file, or from its `content`. Raise `DatasetError` if an array does not fit."""
    found = _loaded(file, fields, expected=expected, content=content)
    if missing := next((name for name in fields if name not in found), None):
        raise DatasetError(f"{file} has no array {missing!r}", hint=did_you_mean(missing, found))
    checked = {name: _checked(found[name], name, declared.get(name), file=file) for name in fields}
    counts = {name: len(each) for name, each in checked.items()}
    if len({*counts.values()}) > 1:
        rows = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        raise DatasetError(f"the arrays of {file} have different numbers of samples: {rows}", hint="write them again")
    return checked


def _loaded(file: Path, fields: Sequence[str], *, expected: str, content: io.BytesIO | None) -> dict[str, Array]:
    begin = content.getvalue()[:_LONGEST_MARK] if content else _first_bytes(file)
    try:
        with ExitStack() as opened:
            if content is None and begin.startswith(_NPY):
                values = np.load(file, mmap_mode="r", allow_pickle=False)
            else:  # NumPy does not close a damaged archive that it opened
                body = opened.enter_context(content or file.open("rb"))
                values = np.load(body, allow_pickle=False)
            if not isinstance(values, np.ndarray):
                opened.enter_context(values)
                return {name: values[name] for name in fields if name in values}
    except _DAMAGED as fault:
        raise DatasetError(f"{file} {_reason(begin, fault)}", hint=f"{expected}: {_SAVE}") from fault
    if len(fields) > 1:
        message = f"the net takes the fields {listed(fields)}; {file} holds one array"
        raise DatasetError(message, hint=_WRITE[True].format(", ".join(f"{name}={name}" for name in fields)))
    return {fields[0]: values}


def _first_bytes(file: Path) -> bytes:
    with file.open("rb") as body:
        return body.read(_LONGEST_MARK)


def _reason(begin: bytes, fault: Exception) -> str:
    """Return the reason why NumPy cannot load a file with these first bytes."""
    if isinstance(fault, MemoryError):
        return "holds more numbers than fit into memory, or is damaged"
    if isinstance(fault, OSError) and fault.errno:
        return f"cannot be read: {fault.strerror}"
    kind = next((kind for mark, kind in _MARKS.items() if begin.startswith(mark)), None)
    if kind is None:
        return "is empty" if not begin else "is not a .npy or .npz file"
    if "object" in str(fault).lower():
        return "holds Python objects; expected numbers"
    return f"is a damaged or truncated {kind} file"


def _checked(values: Array, name: str, declared: Typed | None, *, file: Path) -> Array:
    """Return samples `[n, *shape]`; an array of the declared shape is one sample. Raise `DatasetError` for another type or shape."""
    values = values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
    found = f"{values.dtype} [{', '.join(map(str, values.shape))}]"
    if declared is None:
        if not values.ndim or values.dtype.kind not in "biuf":
            raise DatasetError(f"{name} of {file} is {found}; expected numbers [n, ...]", hint="write it again")
        return values
    shape = ", ".join(map(str, declared.shape))
    if declared.admits(str(values.dtype), values.shape):
        return values[None]
    if not values.ndim or not declared.admits(str(values.dtype), values.shape[1:]):
        hint = f"save the samples as they were published: an array {declared.dtype} [n{shape and f', {shape}'}]"
        raise DatasetError(f"{file} is {found}; expected samples of {declared.dtype} [{shape}]", hint=hint)
    return values


def require_no_picture(body: BinaryIO, name: str, *, expected: str, dataset: str, declared: Typed | None) -> None:
    """Raise `DatasetError` if the body is a picture: how the dataset's arrays were made from pictures is not recorded."""
    try:
        with Image.open(body) as image:
            found = f"a picture ({image.format}, {image.height}x{image.width}, {image.mode})"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return
    message = f"{name} is {found}; {expected}, and how they were made from pictures is not recorded"
    raise DatasetError(message, hint=_conversion(name, dataset, declared.shape if declared else ()))


def _conversion(name: str, dataset: str, shape: Sequence[int | str]) -> str:
    """Return the hint to save an array. For the shape of a picture, it has code that converts a picture to values from 0 to 1."""
    advice = f"save it as a .npy file with the range and the colors of the dataset: reprise data show {dataset}"
    match shape:
        case (int(height), int(width)):
            mode, values = "L", "a[None]"
        case (1, int(height), int(width)):
            mode, values = "L", "a[None, None]"
        case (3, int(height), int(width)):
            mode, values = "RGB", "a.transpose(2, 0, 1)[None]"
        case _:
            return advice
    read = f'Image.open({json.dumps(name)}).convert("{mode}").resize(({width}, {height}))'
    code = f'a = np.asarray({read}, "float32") / 255; np.save("sample.npy", {values})'
    return (
        f"{advice}; from 0 to 1: {shlex.join(['python3', '-c', f'import numpy as np; from PIL import Image; {code}'])}"
    )
