"""The description of a server's endpoints for OpenAPI, from the types of its package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trainer.data.reader import TableReader
from trainer.models.serving.bodies import kind_of
from trainer.models.serving.tensors import DATATYPES, metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.models.package import Package, TensorSpec
    from trainer.models.packaged import PackagedModel
    from trainer.models.serving.limits import Limits

Schema = dict[str, Any]
_BINARY: Final[Schema] = {"type": "string", "format": "binary"}
_ERROR: Final[Schema] = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "hint": {"type": "string"}},
    "required": ["error", "hint"],
}
_REASONS: Final = {
    400: "The request is not HTTP",
    401: "The token is missing or wrong",
    408: "The body did not arrive in time",
    413: "The body or the number of samples is too large",
    415: "The body is compressed, or a form with parts",
    422: "The body does not fit the package",
    431: "The headers are too large",
    500: "The server failed; its log has the number in the message",
    503: "The server has too many requests in progress; Retry-After gives the delay",
    504: "The response was not ready in time",
}
_WHOLE: Final = {
    "uint8": (0, 2**8 - 1),
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
}


def predict_operation(model: PackagedModel, limits: Limits) -> Schema:
    """Return the description of `/predict`."""
    package, kind = model.package, kind_of(model)
    forms: list[Schema] = [_object({"inputs": _object({each.name: _batch(each, limits) for each in package.inputs})})]
    content: dict[str, Schema] = {}
    match kind:
        case "picture":
            content["image/*"] = {"schema": _BINARY}
        case "table":
            forms.insert(0, _object({"rows": _array(_row(model), limits)}))
            content["text/csv"] = {"schema": {"type": "string"}}
        case "arrays" | "tensors" if len(package.inputs) == 1:
            content["application/octet-stream"] = {"schema": {**_BINARY, "description": "A .npy file"}}
        case _:
            pass
    content["application/json"] = {"schema": forms[0] if len(forms) == 1 else {"oneOf": forms}}
    found = _object({"package": {"type": "string"}, "predictions": {"type": "array", "items": _prediction(package)}})
    return {"requestBody": {"required": True, "content": content}, "responses": _responses(found)}


def infer_operation(package: Package, limits: Limits) -> Schema:
    """Return the description of the protocol's inference."""
    inputs = [_tensor(each, limits) for each in package.inputs]
    request = _object(
        {"id": {"type": "string"}, "inputs": {"type": "array", "items": _any_of(inputs)}, "outputs": _outputs(package)},
        required=("inputs",),
    )
    outputs = {"type": "array", "items": _any_of([_tensor(each, limits) for each in package.outputs])}
    names = {name: {"type": "string"} for name in ("model_name", "model_version", "id")}
    response = _object({**names, "outputs": outputs}, required=("model_name", "outputs"))
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": _responses(response),
    }


def get_operations(package: Package) -> dict[str, Schema]:
    """Return the descriptions of the endpoints without a body, by the names of their methods."""
    text, flag, name = {"type": "string"}, {"type": "boolean"}, {"const": package.name}
    tensor = {"name": text, "datatype": text, "shape": {"type": "array", "items": {"type": "integer"}}}
    tensors = {"type": "array", "items": _object(tensor)}
    described = {"name": name, "versions": {"type": "array", "items": text}, "platform": text}
    schemas = {
        "server": _object({"name": text, "version": text, "extensions": {"type": "array", "items": text}}),
        "live": _object({"live": flag}),
        "ready": _object({"ready": flag}),
        "described": _object({**described, "inputs": tensors, "outputs": tensors}),
        "model_ready": _object({"name": name, "ready": flag}),
        **{each: {"type": "object"} for each in ("package", "certificate", "record")},
    }
    found = {each: {"responses": _responses(schema)} for each, schema in schemas.items()}
    for each in ("ready", "model_ready"):
        found[each]["responses"]["503"] = _response("The server is stopping", schemas[each])
    measured = {**_responses({}), "200": {"description": "The metrics", "content": {"text/plain": {"schema": text}}}}
    return {**found, "measured": {"responses": measured}}


def document(package: Package, paths: Schema, *, has_token: bool) -> Schema:
    """Return the OpenAPI document of a server with endpoints."""
    found: Schema = {"openapi": "3.1.0", "info": {"title": package.name, "version": package.digest}, "paths": paths}
    if has_token:
        found["components"] = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
        found["security"] = [{"token": []}]
    return found


def _responses(schema: Schema) -> Schema:
    errors = {str(status): _response(reason, _ERROR) for status, reason in _REASONS.items()}
    return {"200": _response("The response", schema), **errors}


def _response(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _row(model: PackagedModel) -> Schema:
    """Return the schema of a row: the columns from which the net's inputs are read."""
    dataset = model.package.dataset
    assert dataset is not None  # noqa: S101 - the caller checked that the package takes a table
    assert isinstance(dataset.reader, TableReader)  # noqa: S101
    inputs = {each.name for each in model.package.inputs}
    columns: dict[str, Schema] = {}
    for field, column in dataset.reader.fields.items():
        for name in column.names if field in inputs else ():
            treated = dataset.reader.columns.get(name)
            known = {"examples": [*treated.values[:5]]} if treated and treated.values else {}
            columns[name] = {"type": ["string", "number", "boolean", "null"], **known}
    return {"type": "object", "properties": columns, "required": [*columns]}


def _prediction(package: Package) -> Schema:
    scores = _object({name: {"type": "number"} for name in package.answer.names})
    outputs = {each.name: _nested(each) for each in package.outputs}
    match package.answer.kind:
        case "class" if "scores" in outputs:
            return _object({"class": {"enum": [*package.answer.names]}, "scores": scores})
        case "class":
            return _object({"shares": scores, "output": {"type": "array"}})
        case "labels":
            labels = {"type": "array", "items": {"enum": [*package.answer.names]}}
            return _object({"labels": labels, "scores": scores})
        case "values":
            return _object(outputs)


def _tensor(spec: TensorSpec, limits: Limits) -> Schema:
    about = metadata(spec)
    shape = {"type": "array", "items": {"type": "integer", "minimum": 1}, "description": str(about["shape"])}
    length = len(spec.shape) + 1
    return _object(
        {
            "name": {"const": spec.name},
            "datatype": {"const": DATATYPES[spec.dtype]},
            "shape": {**shape, "minItems": length, "maxItems": length},
            "data": {"oneOf": [{"type": "array", "items": _value(spec)}, _batch(spec, limits)]}
            if spec.shape
            else _batch(spec, limits),
        }
    )


def _outputs(package: Package) -> Schema:
    names = {"enum": [each.name for each in package.outputs]}
    return {"type": "array", "items": _object({"name": names})}


def _batch(spec: TensorSpec, limits: Limits) -> Schema:
    return _array(_nested(spec), limits)


def _nested(spec: TensorSpec) -> Schema:
    schema = _value(spec)
    for length in reversed(spec.shape):
        bounds = {"minItems": 1} if length == "any" else {"minItems": length, "maxItems": length}
        schema = {"type": "array", "items": schema, **bounds}
    return schema


def _value(spec: TensorSpec) -> Schema:
    if spec.dtype == "bool":
        return {"type": "boolean"}
    if bounds := _WHOLE.get(spec.dtype):
        return {"type": "integer", "minimum": bounds[0], "maximum": bounds[1]}
    return {"type": "number"}


def _array(items: Schema, limits: Limits) -> Schema:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": limits.max_samples}


def _object(properties: Schema, *, required: Sequence[str] | None = None) -> Schema:
    needed = [*(properties if required is None else required)]
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def _any_of(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"oneOf": schemas}
