"""Build the command line and the settings file for a rerun of a record, and find the image that the record names.

Every version of `train` supports the options. The record is not trusted: names must match a pattern, an image is named by digest, and
values are passed in a file, so that no text of a record becomes an option, a path or a word of a shell. An image matches if its layers and
its manifest or config digest are those of the record; tags are not trusted.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import tomli_w
from pydantic import Field, JsonValue

from trainer.base.digest import Digest
from trainer.base.document import Document
from trainer.base.errors import DocumentError, EngineError, ImageMissingError, IrreproducibleError
from trainer.base.paths import path_fault

if TYPE_CHECKING:
    from trainer.environments.engine import Engine, ImageFacts
    from trainer.runs.record import Record

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")
_REFERENCE: Final = re.compile(r"[a-z0-9][a-z0-9._-]*(:[0-9]{1,5})?(/[a-z0-9][a-z0-9._-]*)*@sha256:[0-9a-f]{64}")
_GIVEN: Final = ("file", "environment", "command line", "record")
LOCAL: Final = "localhost/"
"""The repository prefix of images that were built locally and are in no registry."""
REBUILD: Final = "`reprise image build ENVIRONMENT` in the run's source builds the same image"
_NOT_OURS: Final = frozenset({"environment", "progress", "wandb_project", "mlflow_experiment"})
SERVICES: Final = ("wandb", "mlflow")
"""The settings that select services for logs; `off` disables a service."""


class RerunArguments(Document):
    """The arguments of `train` for a run with the same ingredients."""

    experiment: str
    is_script: bool = False
    settings: dict[str, JsonValue]
    nulls: dict[str, JsonValue] = {}
    """Settings whose value is or contains `null`, which a settings file cannot represent."""

    def words(self, file: str) -> list[str]:
        """Return the command line of `train` with the settings in `file`. Each word is an option with its value."""
        # JSON `null`, because a setting may have the text `none` as its value
        options = [f"--{name.replace('_', '-')}={json.dumps(value)}" for name, value in self.nulls.items()]
        return ["train", f"--{'script' if self.is_script else 'exp'}={self.experiment}", f"--settings={file}", *options]

    def file(self) -> bytes:
        """Return the content of the settings file, without `nulls`."""
        return tomli_w.dumps(self.settings).encode()


class ImageName(Document):
    """An image identified by digest; a record cannot name an image in another way."""

    manifest: Digest | None
    config: Digest | None
    reference: str | None
    """`repository@sha256:...`, if the record names a repository."""
    layers: list[Digest] = Field(min_length=1)

    @property
    def registry(self) -> str | None:
        """The image's registry; `None` for an image that was built locally and never pushed."""
        is_local = self.reference is None or self.reference.startswith(LOCAL)
        return None if is_local else str(self.reference).partition("/")[0]

    def __str__(self) -> str:
        """Return the reference or, without a reference, a digest."""
        return str(self.reference or self.manifest or self.config)


def rerun_arguments(record: Record) -> RerunArguments:
    """Return the arguments for a rerun: only the settings that were given, since the defaults come from the same source.

    The rerun uses the recorded kind of device, and is neither published nor logged to a service. Raise `DocumentError` if the record has
    names that no run of Reprise records.
    """
    accelerator = "gpu" if record.ingredients.device.accelerator == "cuda" else "cpu"
    settings = {name: value for name, value in _chosen_settings(record).items() if name not in _NOT_OURS}
    settings |= {"accelerator": accelerator, "publish": False}
    settings |= {name: "off" for name in SERVICES if record.circumstances.execution.get(name, "off") != "off"}
    return _arguments(record, settings)


def resume_arguments(record: Record) -> RerunArguments:
    """Return the arguments for the next attempt of the record's run: the settings that were given.

    Raise `DocumentError` if the record has names that no run of Reprise records.
    """
    return _arguments(record, _chosen_settings(record))


def _chosen_settings(record: Record) -> dict[str, JsonValue]:
    values, origins = record.circumstances.execution | record.ingredients.settings, record.circumstances.origins
    if invalid := [name for name in values if not _NAME.fullmatch(name)]:
        raise _invalid(record, f"a setting named {invalid[0]!a}")
    if fault := path_fault(record.ingredients.experiment):
        raise _invalid(record, f"the experiment {record.ingredients.experiment!a} ({fault})")
    # the default is a shard for each device, and another attempt may use other devices
    shards = record.ingredients.device.shards
    return {name: value for name, value in values.items() if origins.get(name) in _GIVEN} | (
        {"shards": shards} if shards else {}
    )


def _arguments(record: Record, settings: dict[str, JsonValue]) -> RerunArguments:
    return RerunArguments(
        experiment=record.ingredients.experiment,
        is_script=record.ingredients.kind == "script",
        settings={name: value for name, value in settings.items() if not _has_null(value)},
        nulls={name: value for name, value in sorted(settings.items()) if _has_null(value)},
    )


def _has_null(value: JsonValue) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(_has_null(each) for each in inner)


def image_name(record: Record) -> ImageName:
    """Return the record's image. Raise `IrreproducibleError` if its digest or layers are unknown, `DocumentError` if it is invalid."""
    image, layers = record.circumstances.image, record.ingredients.layers
    if layers is None or not (image.manifest or image.config):
        reason = image.reason or "the image was not known"
        message = f"the record of run {record.run} does not identify the image in which it ran: {reason}"
        hint = f"reprise reproduce {record.run} --no-container, which lists the differences"
        raise IrreproducibleError(message, hint=hint)
    reference = None if image.reference in {image.manifest, image.config} else image.reference
    if reference and not (_REFERENCE.fullmatch(reference) and reference.endswith(f"@{image.manifest}")):
        raise _invalid(record, f"the image {reference!a}, which is not a repository@digest of its manifest")
    return ImageName(manifest=image.manifest, config=image.config, reference=reference, layers=list(layers))


def _invalid(record: Record, what: str) -> DocumentError:
    message = f"the record of run {record.run} names {what}"
    return DocumentError(message, hint="it is damaged or malicious: do not run it")


def find_image(name: ImageName, *, engine: Engine) -> ImageFacts | None:
    """Return the image if it is on this machine, else `None`. An image with the right digest but other layers does not match."""
    digests = {name.manifest, name.config} - {None}
    for reference in filter(None, (name.manifest, name.config, name.reference)):
        image = engine.image(reference)
        image_digests = {image.id, *(each.rpartition("@")[2] for each in image.references)} if image else set()
        if image and list(image.layers) == name.layers and digests & image_digests:
            return image
    return None


def is_in_registry(name: ImageName, *, engine: Engine) -> bool:
    """Return whether the image has a registry that contains it. Raise `EngineError` if the registry does not respond."""
    return bool(name.registry) and engine.in_registry(str(name.reference))


def obtain_image(name: ImageName, *, engine: Engine) -> ImageFacts:
    """Return the image, and pull it if it is not on this machine.

    Raise `ImageMissingError` if the image is in no registry, `EngineError` if the pull fails or pulls another image.
    """
    if image := find_image(name, engine=engine):
        return image
    if name.reference is None or not name.registry:
        message = f"the recorded image {name} is neither on this machine nor in a registry"
        raise ImageMissingError(message, hint=f"{REBUILD}, or `docker load` it from a machine that has it")
    engine.pull(name.reference)
    if image := find_image(name, engine=engine):
        return image
    raise EngineError(f"{name.reference} was pulled, but is not the recorded image", hint=REBUILD)
