"""A run as a Process Run Crate 0.5: the metadata file of an RO-Crate 1.1 with the run's files.

Specifications: https://www.researchobject.org/ro-crate/specification/1.1/, https://w3id.org/ro/wfrun/process/0.5. Each attempt is an
action: its instrument is the source, its objects are datasets, settings and initial weights, its results are the files that it wrote.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from trainer.runs.exports.exported_run import bare, ended, moment, text_of
from trainer.runs.record import Knowledge, RunStatus
from trainer.source.capture import ARCHIVE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trainer.base.file_entry import File
    from trainer.runs.exports.exported_run import ExportedAttempt, ExportedRun
    from trainer.runs.record import Image, Record

METADATA: Final = "ro-crate-metadata.json"
CRATE: Final = "https://w3id.org/ro/crate/1.1"
PROFILE: Final = "https://w3id.org/ro/wfrun/process/0.5"
_TERMS: Final = "https://w3id.org/ro/terms/workflow-run#"
_CONTEXT: Final = [
    f"{CRATE}/context",
    {name: f"{_TERMS}{name}" for name in ("ContainerImage", "containerImage", "registry", "sha256")},
]
_LICENSE: Final = "The record states no license: ask whoever gave you this crate before you use its files."
_TYPES: Final = {
    ".csv": "text/csv",
    ".gz": "application/gzip",
    ".html": "text/html",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".png": "image/png",
    ".txt": "text/plain",
}
"""Media types by suffix. The table of the standard library is not used, since it depends on the machine."""

Entity = dict[str, Any]


def crate_metadata(run: ExportedRun) -> Entity:
    """Return the content of `ro-crate-metadata.json`."""
    files = list(_files(run))
    source = _source(run)
    actions = [_action(run, attempt, source["@id"]) for attempt in run.attempts]
    parts = [*([source] if run.source else []), *files]
    root = _root(run.record) | {"hasPart": _value_of(_links(parts)), "mentions": _value_of(_links(actions))}
    descriptor = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": CRATE},
    }
    profile = {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    inputs = [*_datasets(run.record), *_values(run.record)]
    graph = [descriptor, root, profile, source, *actions, *inputs, *_images(run), *files]
    return {"@context": _CONTEXT, "@graph": graph}


def crate_files(run: ExportedRun) -> Iterator[tuple[str, File]]:
    """Yield each file of the crate with its folder, `attempts/<n>`, or an empty string for the source bundle."""
    if run.source:
        yield "", run.source
    for attempt in run.attempts:
        yield from ((attempt.folder, file) for file in (attempt.document, *attempt.files))


def _root(record: Record) -> Entity:
    about = (
        f"The record and the files of run {record.run} of the experiment {record.ingredients.experiment}: a training."
    )
    return {
        "@id": "./",
        "@type": "Dataset",
        "conformsTo": {"@id": PROFILE},
        "datePublished": moment(ended(record) or record.circumstances.timing.started),
        "description": about,
        "identifier": record.run,
        "license": _LICENSE,
        "name": f"Run {record.run}",
    }


def _files(run: ExportedRun) -> Iterator[Entity]:
    """Yield the files of the attempts."""
    yield from (_file(folder, file) for folder, file in crate_files(run) if folder)


def _file(folder: str, file: File) -> Entity:
    return {
        "@id": _file_id(folder, file),
        "@type": "File",
        "contentSize": str(file.size),
        "encodingFormat": _TYPES.get(PurePosixPath(file.path).suffix.lower(), "application/octet-stream"),
        "name": file.path,
        "sha256": bare(file.sha256),
    }


def _source(run: ExportedRun) -> Entity:
    """Return the source: a file of the crate, or an entity without a file if the bundle is missing."""
    ingredients, source = run.record.ingredients, run.record.circumstances.source
    known = {
        "description": f"git commit {source.commit}{' with changes' if source.dirty else ''}",
        "name": f"source of {ingredients.experiment}",
        "programmingLanguage": "Python",
        "version": ingredients.source,
    }
    if run.source is None:
        return {"@id": "#source", "@type": "SoftwareSourceCode", **known}
    return _file("", run.source) | {"@type": ["File", "SoftwareSourceCode"], **known}


def _action(run: ExportedRun, attempt: ExportedAttempt, source: str) -> Entity:
    record, image = attempt.record, attempt.record.circumstances.image
    end, failed = ended(record), record.outcome.status is not RunStatus.COMPLETED
    return {
        "@id": f"#attempt-{record.attempt}",
        "@type": "CreateAction",
        "actionStatus": f"http://schema.org/{'Failed' if failed else 'Completed'}ActionStatus",
        "description": _description(record),
        "instrument": {"@id": source},
        "name": f"Attempt {record.attempt} of run {record.run}",
        "object": _value_of(list(_objects(run, attempt))),
        "result": _value_of([{"@id": _file_id(attempt.folder, file)} for file in (*attempt.results, *attempt.logs)]),
        "startTime": moment(record.circumstances.timing.started),
        **({"endTime": moment(end)} if end else {}),
        **({"error": record.outcome.reason or record.outcome.status.value} if failed else {}),
        **({"containerImage": {"@id": _image_id(image)}} if image.known is Knowledge.VERIFIED else {}),
    }


def _objects(run: ExportedRun, attempt: ExportedAttempt) -> Iterator[Entity]:
    """Yield links to the inputs of an attempt. The inputs of a resumed attempt include the record of the previous attempt."""
    yield from _links([*_datasets(attempt.record), *_values(attempt.record)])
    yield from ({"@id": _file_id(attempt.folder, file)} for file in attempt.inputs)
    earlier = [each for each in run.attempts if each.record.attempt < attempt.record.attempt]
    yield from ({"@id": _file_id(each.folder, each.document)} for each in earlier[-1:])


def _description(record: Record) -> str:
    image, changed = record.circumstances.image, record.circumstances.changed
    lines = [f"Training of {record.ingredients.experiment}, status {record.outcome.status.value}."]
    if image.known is not Knowledge.VERIFIED:
        lines.append(f"The container image is {image.known.value}, not verified.")
    lines += [f"Changed since the first attempt: {'; '.join(changed)}."] if changed else []
    return " ".join(lines)


def _datasets(record: Record) -> Iterator[Entity]:
    for name, dataset in sorted(record.ingredients.datasets.items()):
        manifest = record.circumstances.manifests.get(name)
        yield {
            "@id": f"#dataset-{name}",
            "@type": "Dataset",
            "description": f"content {dataset.content}{f', manifest {manifest}' if manifest else ''}",
            "identifier": manifest or dataset.content,
            "name": f"{name}@{dataset.version}",
            "version": str(dataset.version),
        }


def _values(record: Record) -> Iterator[Entity]:
    for name, value in sorted(record.ingredients.settings.items()):
        yield {"@id": f"#setting-{quote(name)}", "@type": "PropertyValue", "name": name, "value": _value(value)}


def _value(value: object) -> object:
    return value if isinstance(value, bool | int | float) else text_of(value)


def _images(run: ExportedRun) -> list[Entity]:
    """Return the verified images of all attempts, without duplicates."""
    images = (attempt.record.circumstances.image for attempt in run.attempts)
    return list({_image_id(image): _image(image) for image in images if image.known is Knowledge.VERIFIED}.values())


def _image(image: Image) -> Entity:
    repository = (image.reference or "").partition("@")[0]
    registry, _, name = repository.partition("/")
    digest = image.manifest or image.config
    return {
        "@id": _image_id(image),
        "@type": "ContainerImage",
        "additionalType": {"@id": f"{_TERMS}DockerImage"},
        "name": name or image.environment,
        **({"registry": registry} if name else {}),
        **({"sha256": bare(digest)} if digest else {}),
    }


def _image_id(image: Image) -> str:
    return f"#image-{bare(image.manifest or image.config or '')[:12]}"


def _file_id(folder: str, file: File) -> str:
    return quote(f"{folder}/{file.path}" if folder else ARCHIVE)


def _links(entities: Iterable[Entity]) -> list[Entity]:
    return [{"@id": entity["@id"]} for entity in entities]


def _value_of(links: list[Entity]) -> list[Entity] | Entity:
    """Return the value of a property: RO-Crate writes a single link without a list."""
    return links[0] if len(links) == 1 else links
