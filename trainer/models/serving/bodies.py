"""The body of a request as batches of the net's inputs: a picture, rows of a table, arrays, or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import torch

from trainer.base.errors import DatasetError
from trainer.data.reader import ArraysReader, ImagesReader, TableReader
from trainer.models.serving.limits import RequestError, parsed_request
from trainer.models.serving.tensors import named_arrays, protocol_inputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from torch import Tensor

    from trainer.models.packaged import PackagedModel
    from trainer.models.serving.limits import Limits
    from trainer.models.serving.tensors import Array

Kind = Literal["picture", "table", "arrays", "tensors"]
Batch = dict[str, "Tensor"]
_SMALL: Final = 16 << 10
"""Bytes of JSON or of an array that are decoded in about a millisecond."""
_JSON: dict[Kind, str] = {"table": '{"rows": [...]} or {"inputs": {...}}'}
_FORMS: dict[Kind, str] = {
    "picture": "curl --data-binary @photo.png",
    "table": 'curl --json \'{"rows": [{"column": value}]}\'',
    "arrays": "curl --data-binary @samples.npy",
    "tensors": 'curl --json \'{"inputs": {"name": [[...]]}}\'',
}


def kind_of(model: PackagedModel) -> Kind:
    """Return the kind of input that the package takes."""
    match model.package.dataset and model.package.dataset.reader:
        case ImagesReader():
            return "picture"
        case TableReader():
            return "table"
        case ArraysReader():
            return "arrays"
        case _:
            return "tensors"


def is_small(body: bytes) -> bool:
    """Return whether tensors in a body are decoded in about a millisecond."""
    return len(body) <= _SMALL


def is_quick(body: bytes, kind: Kind, *, content_type: str) -> bool:
    """Return whether a body of `/predict` is decoded in about a millisecond: never a table or an encoded picture."""
    return is_small(body) and (
        kind in {"arrays", "tensors"} or (kind == "picture" and _is_json(body, kind, content_type))
    )


def batches_of(model: PackagedModel, body: bytes, *, content_type: str, limits: Limits) -> list[Batch]:
    """Return the samples of a body of `/predict` in batches. Raise `RequestError` if the package cannot read it."""
    kind = kind_of(model)
    if _media(content_type).startswith("multipart/"):
        raise RequestError(415, "the body is a form with parts; expected the data alone", hint=_FORMS[kind])
    if not body:
        raise RequestError(422, "the request has no body", hint=_FORMS[kind])
    try:
        found = _of_json(model, body, limits) if _is_json(body, kind, content_type) else _of_file(model, body, kind)
        return _counted(found, limits)
    except DatasetError as fault:
        raise RequestError(422, fault.message, hint=fault.hint or _FORMS[kind]) from fault


def inference_batch(model: PackagedModel, request: Mapping[str, Any], *, limits: Limits) -> Batch:
    """Return the samples of an inference request of the protocol. Raise `RequestError` if they do not fit the package."""
    try:
        return _counted([_tensors(model, protocol_inputs(request, model.package.inputs))], limits)[0]
    except DatasetError as fault:
        raise RequestError(422, fault.message, hint=fault.hint or "see /openapi.json") from fault


def _media(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_json(body: bytes, kind: Kind, content_type: str) -> bool:
    return _media(content_type) == "application/json" or (kind != "picture" and body.lstrip()[:1] == b"{")


def _of_json(model: PackagedModel, body: bytes, limits: Limits) -> Iterable[Batch]:
    request, kind = parsed_request(body, most=limits.max_body), kind_of(model)
    expected = _JSON.get(kind, '{"inputs": {...}}')
    if len(request) != 1 or not {"inputs", "rows"}.issuperset(request) or ("rows" in request and kind != "table"):
        found = ", ".join(sorted(request))[:80] or "nothing"
        raise RequestError(
            422, f"the request has the keys {found}; expected {expected}", hint="/openapi.json describes it"
        )
    if "inputs" in request:
        return [_tensors(model, named_arrays(request["inputs"], model.package.inputs))]
    rows = request["rows"]
    if not isinstance(rows, list) or not all(isinstance(each, dict) for each in rows):
        raise RequestError(422, "rows is not a list of objects", hint='{"rows": [{"column": value}]}')
    if not rows:
        raise _no_samples()
    if len(rows) > limits.max_samples:
        raise _too_many(limits)
    return model.reader.of_rows(rows)


def _of_file(model: PackagedModel, body: bytes, kind: Kind) -> Iterator[Batch]:
    if kind in {"arrays", "tensors"} and len(model.package.inputs) > 1:
        raise RequestError(422, "the package takes several tensors, but the body is not JSON", hint=_FORMS["tensors"])
    return model.reader.of_bytes(body, name="the request")


def _tensors(model: PackagedModel, arrays: Mapping[str, Array]) -> Batch:
    if arrays and not all(len(each) for each in arrays.values()):
        raise _no_samples()
    if empty := next((name for name, each in arrays.items() if not each.size), None):
        message = f"the input {empty} has samples without a value"
        raise RequestError(422, message, hint="every length is at least 1")
    return model.checked({name: torch.from_numpy(each) for name, each in arrays.items()})


def _counted(batches: Iterable[Batch], limits: Limits) -> list[Batch]:
    """Return the batches. Raise `RequestError` if they have no samples or too many."""
    found, count = [], 0
    for batch in batches:
        count += len(next(iter(batch.values())))
        if count > limits.max_samples:
            raise _too_many(limits)
        found.append(batch)
    if not count:
        raise _no_samples()
    return found


def _too_many(limits: Limits) -> RequestError:
    message = f"the request has more than {limits.max_samples:,} samples"
    return RequestError(413, message, hint="send several requests")


def _no_samples() -> RequestError:
    return RequestError(422, "the request has no samples", hint="send at least one")
