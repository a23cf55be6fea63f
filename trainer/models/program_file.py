"""An exported program as a file, read without running code from the file.

`torch.export.load` unpickles parts of an archive, loads libraries from it, and evaluates expressions of shapes. So `read_program` accepts
only what an exported net needs: tensors as raw bytes, operators of torch from a list, and expressions of sizes. It passes torch a
new archive with only these parts.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import TYPE_CHECKING, Any, Final

import torch

from trainer.base.document import json_value
from trainer.base.errors import DocumentError, RepriseError
from trainer.base.json_faults import json_fault

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODEL: Final = "models/model.json"
_INPUTS: Final = "data/sample_inputs/model.pt"
_CONFIGS: Final = {
    "data/weights/model_weights_config.json": "weight_",
    "data/constants/model_constants_config.json": "tensor_",
}
_TENSORS: Final = re.compile(r"data/(weights/weight|constants/tensor)_\d{1,6}")
_PLAIN: Final = {"archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id", "version"}
_OPERATOR: Final = re.compile(r"torch\.ops\.aten\.\w+\.\w+|torch\.sym_\w+|_operator\.[a-z]+|math\.[a-z]+")
_EXPRESSION: Final = re.compile(
    r"(?:Symbol\('[a-z]+\d{1,9}'(?:, \w{1,20}=(?:True|False)){0,9}\)|Integer\(-?\d{1,18}\)|-?\d{1,18}"
    r"|(?:Add|Mul|Max|Min|Mod|FloorDiv|CeilDiv|PythonMod|ModularIndexing)\(|[(), ])*"
)
"""Sizes as sympy writes them, without powers, which can be of any length."""
_CONTAINERS: Final = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
_MOST_PROGRAM: Final = 256 << 20
"""Bytes of the description of a program."""
_DAMAGED: Final = "fetch the package again, or ask its author for a new copy"


def read_program(data: bytes, *, where: str) -> torch.export.ExportedProgram:
    """Return the program in an archive of `torch.export.save`. Raise `DocumentError` if a part could run code, or is damaged."""
    try:
        return torch.export.load(io.BytesIO(_rebuilt(data, where)))
    except RepriseError:
        raise
    except Exception as fault:
        message = f"{where} cannot be loaded as a program: {type(fault).__name__}: {' '.join(str(fault).split())[:200]}"
        raise DocumentError(message, hint=_DAMAGED) from fault


def _rebuilt(data: bytes, where: str) -> bytes:
    """Return a new archive with the parts of a program that run no code."""
    target = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as copy:
            for path, body in _parts(source, where):
                copy.writestr(path, body)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as fault:
        raise DocumentError(f"{where} is not an archive of a program: {fault}", hint=_DAMAGED) from fault
    return target.getvalue()


def _parts(source: zipfile.ZipFile, where: str) -> Iterator[tuple[str, bytes]]:
    for entry in source.infolist():
        if entry.compress_type != zipfile.ZIP_STORED:
            raise _rejected(where, f"{entry.filename!a} is compressed")
        folder, _, path = entry.filename.partition("/")
        body = source.read(entry)
        if path in _CONFIGS:
            _require_raw(body, prefix=_CONFIGS[path], where=f"{where}: {path}")
        elif path == _MODEL:
            _require_program(body, where=f"{where}: {path}")
        elif path == _INPUTS:
            body = b""  # torch unpickles them, and a program does not need them
        elif path not in _PLAIN and not _TENSORS.fullmatch(path):
            raise _rejected(where, f"it has the part {path!a}")
        yield f"{folder}/{path}", body


def _require_raw(body: bytes, *, prefix: str, where: str) -> None:
    """Raise `DocumentError` if a list of tensors has a pickled tensor, or a tensor in an unexpected file."""
    content = json_value(body, where=where, most=_MOST_PROGRAM)
    listed = content.get("config") if isinstance(content, dict) else None
    if not isinstance(listed, dict):
        raise _rejected(where, "it is not a list of tensors")
    for name, each in listed.items():
        if not isinstance(each, dict) or each.get("use_pickle") is not False:
            raise _rejected(where, f"tensor {name!a} is pickled")
        if not re.fullmatch(rf"{prefix}\d{{1,6}}", str(each.get("path_name"))):
            raise _rejected(where, f"tensor {name!a} is in {each.get('path_name')!a}")


def _require_program(body: bytes, *, where: str) -> None:
    """Raise `DocumentError` if a program has an operator, an expression or a container that is not in the lists."""
    if len(body) > _MOST_PROGRAM:
        raise _rejected(where, f"it has {len(body):,} bytes; expected at most {_MOST_PROGRAM:,}")
    try:
        content: Any = json.loads(body)
    except RecursionError as fault:
        raise _rejected(where, "it has too many nested brackets") from fault
    except ValueError as fault:
        raise _rejected(where, f"it is not JSON: {json_fault(fault)}") from fault
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key, each in value.items():
                _require_part(key, each, where)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _require_part(key: str, value: Any, where: str) -> None:
    if key == "target" and not (isinstance(value, str) and _OPERATOR.fullmatch(value)):
        raise _rejected(where, f"it has the operator {value!a}")
    if key == "expr_str" and not (isinstance(value, str) and _EXPRESSION.fullmatch(value)):
        raise _rejected(where, f"it has the expression {value!a}")
    if key in {"in_spec", "out_spec"} and isinstance(value, str) and value:
        for found in _types(json_value(value, where=where, most=_MOST_PROGRAM)):
            if found not in _CONTAINERS:
                raise _rejected(where, f"it has the container {found!a}")


def _types(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if "type" in each:
                yield each["type"]
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)


def _rejected(where: str, reason: str) -> DocumentError:
    return DocumentError(f"{where} is rejected: {reason[:200]}", hint=_DAMAGED)
