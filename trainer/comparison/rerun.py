"""Build the command line and the settings file that run a record's ingredients again.

The options are understood by `train` of every version. The record is not trusted: names must match a pattern, an image is named by digest,
and values are passed in a file, so that no text of a record becomes an option, a path or a word of a shell.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import tomli_w
from pydantic import Field, JsonValue

from trainer.base.digest import Digest
from trainer.base.document import Document
from trainer.base.errors import DocumentError, IrreproducibleError
from trainer.base.paths import path_fault

if TYPE_CHECKING:
    from trainer.runs.record import Image, Record

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")
_REFERENCE: Final = re.compile(r"[a-z0-9][a-z0-9._-]*(:[0-9]{1,5})?(/[a-z0-9][a-z0-9._-]*)*@sha256:[0-9a-f]{64}")
_GIVEN: Final = ("file", "environment", "command line", "record")
_NOT_OURS: Final = frozenset({"environment", "progress", "wandb_project"})


class Rerun(Document):
    """The arguments of a run with the same ingredients."""

    experiment: str
    settings: dict[str, JsonValue]
    unset: tuple[str, ...] = ()
    """Settings whose value is null, which a settings file cannot express."""
    with_null: dict[str, JsonValue] = {}
    """Settings whose value contains a null, which a settings file cannot express either."""

    def words(self, file: str) -> list[str]:
        """Return the command line of `train` with the settings in `file`. Each word holds one option and its value."""
        nulls = {**dict.fromkeys(self.unset), **self.with_null}  # `null`, since `none` may be a valid text of a setting
        options = [f"--{name.replace('_', '-')}={json.dumps(value)}" for name, value in nulls.items()]
        return ["train", f"--exp={self.experiment}", f"--settings={file}", *options]

    def file(self) -> bytes:
        """Return the content of the settings file."""
        return tomli_w.dumps(self.settings).encode()


class ImageName(Document):
    """An image by digest; a record may not name an image in another way."""

    manifest: Digest | None
    config: Digest | None
    reference: str | None
    """`repository@sha256:...`, if the record names a repository."""
    layers: list[Digest] = Field(min_length=1)


def rerun(record: Record) -> Rerun:
    """Return the arguments for a new run of this record's ingredients: the given settings, since defaults come from the same source.

    The device is the recorded one, and the new run does not publish. Raise `DocumentError` if the record has values that no Reprise run
    has.
    """
    accelerator = "gpu" if record.ingredients.device.accelerator == "cuda" else "cpu"
    given = {name: value for name, value in _given(record).items() if name not in _NOT_OURS}
    given |= {"accelerator": accelerator, "publish": False}
    if record.circumstances.execution.get("wandb", "off") != "off":
        given["wandb"] = "off"
    return _starting(record, given)


def going_on(record: Record) -> Rerun:
    """Return the arguments for the next attempt of this record's run: the settings as they were given, so that `auto` remains `auto`.

    Raise `DocumentError` if the record has values that no Reprise run has.
    """
    return _starting(record, _given(record))


def _given(record: Record) -> dict[str, JsonValue]:
    values, origins = record.circumstances.execution | record.ingredients.settings, record.circumstances.origins
    if odd := [name for name in values if not _NAME.fullmatch(name)]:
        raise _odd(record, f"a setting named {odd[0]!a}")
    if fault := path_fault(record.ingredients.experiment):
        raise _odd(record, f"the experiment {record.ingredients.experiment!a} ({fault})")
    return {name: value for name, value in values.items() if origins.get(name) in _GIVEN}


def _starting(record: Record, given: dict[str, JsonValue]) -> Rerun:
    return Rerun(
        experiment=record.ingredients.experiment,
        settings={name: value for name, value in given.items() if not _has_null(value)},
        unset=tuple(sorted(name for name, value in given.items() if value is None)),
        with_null={name: value for name, value in sorted(given.items()) if value is not None and _has_null(value)},
    )


def _has_null(value: JsonValue) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(_has_null(each) for each in inner)


def image_name(record: Record) -> ImageName:
    """Return the record's image by digest. Raise `IrreproducibleError` if the record names none, `DocumentError` if it is invalid."""
    image, layers = record.circumstances.image, record.ingredients.layers
    if layers is None or not (image.manifest or image.config):
        said = (
            f"the record of run {record.run} does not say in which image it ran: {image.reason or 'it was not known'}"
        )
        raise IrreproducibleError(
            said, hint=f"reprise reproduce {record.run} --no-container, which lists the differences"
        )
    return ImageName(
        manifest=image.manifest, config=image.config, reference=_reference(record, image), layers=list(layers)
    )


def _reference(record: Record, image: Image) -> str | None:
    if image.reference is None or image.reference in {image.manifest, image.config}:
        return None
    if not _REFERENCE.fullmatch(image.reference) or not image.reference.endswith(f"@{image.manifest}"):
        raise _odd(record, f"the image {image.reference!a}, which is no repository@digest of its manifest")
    return image.reference


def _odd(record: Record, what: str) -> DocumentError:
    return DocumentError(
        f"the record of run {record.run} names {what}", hint="it was damaged or made to do harm: do not run it"
    )
