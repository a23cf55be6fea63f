"""A machine learning bill of materials of a run, CycloneDX 1.6: the trained model, and the data, code and software that trained it.

Specification: https://cyclonedx.org/docs/1.6/json/. The document has no time stamp, and its serial number is derived from the record, so
equal records produce equal documents. A digest is a component's hash only if it is the sha256 of the component's
bytes; other digests are properties.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from trainer.base.errors import RunError
from trainer.base.suggestions import counted
from trainer.runs.exports.exported_run import bare, text_of
from trainer.runs.record import WEIGHTS_ROLE, Knowledge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.runs.exports.exported_run import ExportedAttempt, ExportedRun
    from trainer.runs.record import Record

SCHEMA: Final = "http://cyclonedx.org/schema/bom-1.6.schema.json"
MODEL: Final = "model"
"""The reference of the trained model in the document."""
_DISTRIBUTIONS: Final = {"Debian": "debian", "Ubuntu": "ubuntu"}
"""Namespaces of packages by the first word of the system's name: https://github.com/package-url/purl-spec."""
_SPLIT: Final = re.compile(r"(test|val)_(.+)")


def bill_of_materials(run: ExportedRun) -> dict[str, Any]:
    """Return the document. Raise `RunError` if the run has no trained weights."""
    record = run.record
    components = [*_data(record), *_code(run), *_image(record), *_software(record)]
    identifiers = [component["bom-ref"] for component in components]
    return {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, f'urn:reprise:record:{run.last.document.sha256}')}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "reprise"}]},
            "component": _model(run),
        },
        "components": components,
        "dependencies": [{"ref": MODEL, "dependsOn": identifiers}, *({"ref": each} for each in identifiers)],
    }


def _model(run: ExportedRun) -> dict[str, Any]:
    record, weights = run.record, run.last.weights
    if weights is None:
        message = f"run {record.run} has no weights.safetensors, so there is no model to describe"
        raise RunError(message, hint=f"reprise runs export {record.run} --as slsa")
    ancestors = list(_ancestors(record))
    return {
        "type": "machine-learning-model",
        "bom-ref": MODEL,
        "name": record.ingredients.experiment,
        "version": record.run,
        "hashes": _hashes(weights.sha256),
        "modelCard": _card(run.last),
        **({"pedigree": {"ancestors": ancestors}} if ancestors else {}),
        "properties": _properties(
            identity=record.identity,
            record=run.last.document.sha256,
            attempt=record.attempt,
            status=record.outcome.status,
            determinism=record.promise,
            accelerator=record.ingredients.device.accelerator,
            precision=record.ingredients.device.precision,
            image=record.circumstances.image.known,
        ),
    }


def _card(attempt: ExportedAttempt) -> dict[str, Any]:
    """Return the model card: datasets, metrics, limitations and settings."""
    record = attempt.record
    datasets = [{"ref": _dataset_reference(name)} for name in sorted(record.ingredients.datasets)]
    limitations = list(_limitations(attempt))
    return {
        "modelParameters": {"datasets": datasets} if datasets else {},
        "quantitativeAnalysis": {"performanceMetrics": list(_metrics(record))},
        **({"considerations": {"technicalLimitations": limitations}} if limitations else {}),
        "properties": [
            _property(f"setting:{name}", value) for name, value in sorted(record.ingredients.settings.items())
        ],
    }


def _metrics(record: Record) -> Iterator[dict[str, str]]:
    for name, value in sorted(record.outcome.metrics.items()):
        split = _SPLIT.fullmatch(name)
        measured = {"type": split[2], "slice": split[1]} if split else {"type": name}
        yield measured | {"value": text_of(value)}


def _limitations(attempt: ExportedAttempt) -> Iterator[str]:
    record, circumstances = attempt.record, attempt.record.circumstances
    yield from (f"{name}: {reason}" for name, reason in sorted(circumstances.limits.items()))
    yield from (f"{name} is undefined: {reason}" for name, reason in sorted(record.outcome.undefined.items()))
    if not record.ingredients.datasets:
        yield "The data are not a dataset: the record does not identify them."
    if left := circumstances.determinism_at_end:
        yield f"Determinism level {record.ingredients.determinism.level} was left: {'; '.join(left)}"
    if attempt.drift:
        count = counted(attempt.drift, "difference")
        yield f"The software was not that of the image or the lock: the record lists {count}."
    if circumstances.image.known is not Knowledge.VERIFIED:
        yield f"The container image is {circumstances.image.known}, not verified."


def _ancestors(record: Record) -> Iterator[dict[str, Any]]:
    """Yield the model whose weights were the initial weights, if any."""
    digest, parent = record.ingredients.initial_weights, record.circumstances.parent
    if digest:
        about = {"version": parent.run, "properties": _properties(identity=parent.identity)} if parent else {}
        yield {"type": "machine-learning-model", "name": "initial weights", "hashes": _hashes(digest), **about}


def _data(record: Record) -> Iterator[dict[str, Any]]:
    for name, dataset in sorted(record.ingredients.datasets.items()):
        about = _properties(
            content=dataset.content,
            manifest=record.circumstances.manifests.get(name),
            roles=", ".join(dataset.roles) or None,
        )
        kind = "other" if dataset.roles == [WEIGHTS_ROLE] else "dataset"
        yield {
            "type": "data",
            "bom-ref": _dataset_reference(name),
            "name": name,
            "version": str(dataset.version),
            "data": [{"type": kind, "name": f"{name}@{dataset.version}", "contents": {"properties": about}}],
        }


def _dataset_reference(name: str) -> str:
    return f"dataset:{name}"


def _code(run: ExportedRun) -> Iterator[dict[str, Any]]:
    ingredients, source = run.record.ingredients, run.record.circumstances.source
    hashes = {"hashes": _hashes(run.source.sha256)} if run.source else {}
    about = _properties(source=ingredients.source, commit=source.commit, dirty=source.dirty)
    yield {"type": "file", "bom-ref": "source", "name": "source.tar.gz", **hashes, "properties": about}
    if ingredients.lock:
        yield {"type": "file", "bom-ref": "lock", "name": "uv.lock", "hashes": _hashes(ingredients.lock)}


def _image(record: Record) -> Iterator[dict[str, Any]]:
    """Yield the image if a launcher verified it; the model's property `image` states how well the image is known."""
    image = record.circumstances.image
    digest = image.manifest or image.config
    if image.known is Knowledge.VERIFIED and digest:
        about = _properties(reference=image.reference, config=image.config, build_id=image.build_id)
        name = image.environment or "image"
        yield {"type": "container", "bom-ref": "image", "name": name, "version": digest, "properties": about}


def _software(record: Record) -> Iterator[dict[str, Any]]:
    inventory = record.circumstances.inventory
    yield {"type": "platform", "bom-ref": "python", "name": "python", "version": inventory.python}
    for name, each in sorted(inventory.distributions.items()):
        purl = f"pkg:pypi/{_part(name)}@{_part(each.version)}"
        about = {"properties": _properties(record_file=each.record)} if each.record else {}
        yield {"type": "library", "bom-ref": purl, "name": name, "version": each.version, "purl": purl, **about}
    namespace = _DISTRIBUTIONS.get(record.circumstances.host.system.split(" ")[0])
    for name, version in sorted(inventory.system.items()):
        purl = f"pkg:deb/{namespace}/{_part(name)}@{_part(version)}"
        known = {"purl": purl} if namespace else {}
        yield {"type": "library", "bom-ref": f"system:{name}", "name": name, "version": version, **known}


def _part(text: str) -> str:
    """Percent-encode a text as part of a package URL."""
    return quote(text, safe="-._~:")


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": bare(digest)}]


def _properties(**values: object) -> list[dict[str, str]]:
    """Return the values that are not `None` as properties in the namespace `reprise`."""
    return [_property(name, value) for name, value in values.items() if value is not None]


def _property(name: str, value: object) -> dict[str, str]:
    return {"name": f"reprise:{name}", "value": text_of(value)}
