"""SLSA provenance, version 1, of a run's last attempt, as the predicate of an in-toto Statement, version 1.

Specifications: https://slsa.dev/spec/v1.0/provenance, https://github.com/in-toto/attestation/tree/main/spec/v1. An image is a dependency
only if a launcher verified it; an asserted or unknown image is a field of the internal parameters. docs/how-to/share-provenance.md
describes the build type.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from trainer.runs.exports.exported_run import bare, ended, moment
from trainer.runs.record import Knowledge
from trainer.settings.fields import GIVEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.base.file_entry import File
    from trainer.runs.exports.exported_run import ExportedAttempt, ExportedRun
    from trainer.runs.record import Record

STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "urn:reprise:training:1"
"""A training by Reprise."""
BUILDER: Final = "urn:reprise:builder:unattested:1"
"""The user's own machine: the training process wrote the record itself, and no other party attests it."""
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def provenance(run: ExportedRun) -> dict[str, Any]:
    """Return the statement, whose subjects are the results of the last attempt."""
    record = run.record
    return {
        "_type": STATEMENT,
        "subject": [_resource(file) for file in run.last.results],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": _external(record),
                "internalParameters": _internal(run.last),
                "resolvedDependencies": list(_dependencies(run)),
            },
            "runDetails": {
                "builder": {"id": BUILDER},
                "metadata": _metadata(record),
                "byproducts": [_resource(file) for file in run.last.logs],
            },
        },
    }


def given_names(record: Record) -> list[str]:
    """Return the names of the settings that the user gave to the run, or to the run of which it is a rerun."""
    origins = record.circumstances.origins
    return sorted(name for name in record.ingredients.settings if origins.get(name) in GIVEN)


def _external(record: Record) -> dict[str, Any]:
    ingredients = record.ingredients
    given = {name: ingredients.settings[name] for name in given_names(record)}
    kind = {"kind": ingredients.kind} if ingredients.kind else {}
    return {"experiment": ingredients.experiment, **kind, "settings": given}


def _internal(attempt: ExportedAttempt) -> dict[str, Any]:
    record = attempt.record
    ingredients, circumstances, outcome = record.ingredients, record.circumstances, record.outcome
    given = set(given_names(record))
    layers = {"layers": ingredients.layers} if ingredients.layers else {}
    known = {
        "settings": {name: value for name, value in ingredients.settings.items() if name not in given},
        "identity": record.identity,
        "attempt": record.attempt,
        "status": outcome.status.value,
        "determinism": ingredients.determinism.model_dump(mode="json"),
        "device": ingredients.device.model_dump(mode="json", exclude_none=True),
        "image": circumstances.image.model_dump(mode="json", exclude_none=True) | layers,
        "requirements": ingredients.requirements,
        "drift": attempt.drift,
        "limits": circumstances.limits,
        "changed": circumstances.changed,
        "retestOf": circumstances.retest_of,
    }
    return {name: value for name, value in known.items() if value not in (None, [], {})}


def _dependencies(run: ExportedRun) -> Iterator[dict[str, Any]]:
    ingredients, circumstances = run.record.ingredients, run.record.circumstances
    source = {"repriseSource": bare(ingredients.source)}
    about = circumstances.source.model_dump(mode="json", include={"commit", "dirty", "submodules", "project"})
    if run.source is None:
        yield {"name": "source", "digest": source, "annotations": about}
    else:
        packed = _resource(run.source)
        yield packed | {"digest": packed["digest"] | source, "annotations": about}
    if circumstances.source.dirty is False and _COMMIT.fullmatch(circumstances.source.commit):
        yield {"name": "commit", "digest": {"gitCommit": circumstances.source.commit}}
    if ingredients.lock:
        yield {"name": "uv.lock", "digest": {"sha256": bare(ingredients.lock)}}
    yield from _image(run.record)
    yield from _datasets(run.record)
    if ingredients.initial_weights:
        yield _initial_weights(run.record, ingredients.initial_weights)
    for attempt in run.attempts[:-1]:
        yield {"name": f"{attempt.folder}/{attempt.document.path}", "digest": {"sha256": bare(attempt.document.sha256)}}


def _image(record: Record) -> Iterator[dict[str, Any]]:
    """Yield the image if it is verified, with the digest of its manifest, or of its configuration if the image has no manifest."""
    image = record.circumstances.image
    digest = image.manifest or image.config
    if image.known is Knowledge.VERIFIED and digest:
        name = image.reference or f"image {image.environment}"
        about = {"known": image.known.value, "digestOf": "manifest" if image.manifest else "configuration"}
        yield {"name": name, "digest": {"sha256": bare(digest)}, "annotations": about}


def _datasets(record: Record) -> Iterator[dict[str, Any]]:
    manifests = record.circumstances.manifests
    for name, dataset in sorted(record.ingredients.datasets.items()):
        about = {"content": dataset.content, "roles": dataset.roles}
        title, manifest = f"{name}@{dataset.version}", manifests.get(name)
        digest = {"sha256": bare(manifest)} if manifest else {"repriseContent": bare(dataset.content)}
        yield {
            "name": f"manifest of {title}" if manifest else title,
            "digest": digest,
            "annotations": {key: value for key, value in about.items() if value},
        }


def _initial_weights(record: Record, digest: str) -> dict[str, Any]:
    parent = record.circumstances.parent
    name = f"initial weights, of run {parent.run}" if parent else "initial weights"
    about = {"annotations": parent.model_dump(mode="json")} if parent else {}
    return {"name": name, "digest": {"sha256": bare(digest)}, **about}


def _metadata(record: Record) -> dict[str, Any]:
    end = ended(record)
    times = {"startedOn": moment(record.circumstances.timing.started)} | ({"finishedOn": moment(end)} if end else {})
    return {"invocationId": record.run, **times}


def _resource(file: File) -> dict[str, Any]:
    return {"name": file.path, "digest": {"sha256": bare(file.sha256)}}
