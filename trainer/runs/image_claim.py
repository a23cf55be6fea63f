"""The image of the container that this process runs in, and how well its identity is known.

There are three sources: the file baked into the image, the variables passed to the process, and the launcher's inspection of the container.
An image cannot contain its own digest, and a build ID identifies inputs only: unless a second source agrees with the baked file, the image
is unknown.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from pydantic import Field

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import Digest, is_digest
from trainer.base.document import Document, parse_json
from trainer.base.errors import DocumentError
from trainer.base.plain_text import reading
from trainer.base.safe_folder import run_root
from trainer.runs.image_file import IMAGE_FILE
from trainer.runs.record import Image, Knowledge

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

M = TypeVar("M", bound=Document)

OBSERVED_IMAGE: Final = "image-seen.json"
"""The file in the run's folder that a launcher on the host writes."""


class BakedImage(Document):
    """The description baked into an image, `/opt/reprise/image.json`."""

    format: Literal["reprise.image/1"]
    environment: str
    build_id: Digest | None
    """`None` in an image built by compose itself."""
    lock: Digest
    """The digest of the locked packages of the environment; of the whole lock if compose itself built the image."""
    variables: dict[str, str] = Field(default_factory=dict)


class ObservedImage(Document):
    """The image of a started container, as the engine reported it."""

    format: Literal["reprise.image-seen/1"] = "reprise.image-seen/1"
    container: str
    reference: str | None
    manifest: Digest | None = None
    config: Digest | None = None
    build_id: Digest | None = None
    """`None` if the image has no build ID: Reprise did not build it."""
    layers: list[Digest] = Field(default_factory=list)
    fault: str | None = None
    """Why the image could not be inspected. The file is written anyway, so that the command in the container stops waiting for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageClaim:
    """The image for the circumstances, its layers for the ingredients, and its baked description for the checks before a run."""

    image: Image
    layers: list[str] | None
    baked: BakedImage | None


def claim_image(environ: Mapping[str, str], *, run: Path | None = None, baked: Path = IMAGE_FILE) -> ImageClaim:
    """Identify the image of this process. `environ` holds the REPRISE_* variables; `run` is the run's folder."""
    baked_image, fault = _read(baked, BakedImage)
    seen_image, seen_fault = _read(run / OBSERVED_IMAGE, ObservedImage) if run else (None, None)
    if baked_image is None:
        return _unknown(None, environ, fault or "this process does not run in a container of a Reprise image")
    if seen_image is not None and seen_image.fault is None:
        return _verified(baked_image, seen_image, environ)
    if reason := seen_fault or _disagreement(baked_image, environ):
        return _unknown(baked_image, environ, reason)
    reference = environ["REPRISE_IMAGE"]
    image = Image(
        known=Knowledge.ASSERTED,
        environment=baked_image.environment,
        reference=reference,
        manifest=_manifest(reference),
        config=_digest(environ, "REPRISE_IMAGE_CONFIG"),
        build_id=baked_image.build_id,
        handed_build_id=baked_image.build_id,
    )
    return ImageClaim(image=image, layers=_layers(environ), baked=baked_image)


def write_observed_image(run: Path, observed: ObservedImage) -> None:
    """Write the image that the engine reported into the run's folder."""
    with disk_faults(run), run_root(run) as folder:
        folder.write_whole(OBSERVED_IMAGE, observed.model_dump_json().encode() + b"\n")


def _verified(baked_image: BakedImage, seen_image: ObservedImage, environ: Mapping[str, str]) -> ImageClaim:
    if baked_image.build_id is None:
        return _unknown(baked_image, environ, _NO_BUILD_ID)
    if seen_image.build_id != baked_image.build_id:
        description = (
            f"a container of build {seen_image.build_id}" if seen_image.build_id else "an image without a build ID"
        )
        return _unknown(baked_image, environ, f"the engine reported {description}, not the image of this process")
    build_id = _digest(environ, "REPRISE_BUILD_ID")
    if environ.get("REPRISE_BUILD_ID") and build_id != baked_image.build_id:
        return _unknown(baked_image, environ, _stale(baked_image, environ))
    image = Image(
        known=Knowledge.VERIFIED,
        environment=baked_image.environment,
        reference=seen_image.reference,
        manifest=seen_image.manifest,
        config=seen_image.config,
        build_id=baked_image.build_id,
        handed_build_id=build_id,
    )
    return ImageClaim(image=image, layers=list(seen_image.layers) or None, baked=baked_image)


_NO_BUILD_ID: Final = "this image has no build ID: build it with `reprise image build`"


def _stale(baked_image: BakedImage, environ: Mapping[str, str]) -> str:
    build_id = environ["REPRISE_BUILD_ID"]
    text = build_id if is_digest(build_id) else f"{build_id[:80]!r} (not a digest)"
    fault = f"REPRISE_BUILD_ID, which identifies the inputs of an image, is {text} in .env; this image has {baked_image.build_id}"
    return f"{fault}: `scripts/setup` updates .env"


def _disagreement(baked_image: BakedImage, environ: Mapping[str, str]) -> str | None:
    if baked_image.build_id is None:
        return _NO_BUILD_ID
    build_id = environ.get("REPRISE_BUILD_ID", "")
    environment = environ.get("REPRISE_ENVIRONMENT", "")
    if not build_id or not environ.get("REPRISE_IMAGE"):
        return "no image identity was passed to this process: `scripts/setup` writes it into .env"
    if build_id != baked_image.build_id:
        return _stale(baked_image, environ)
    if environment and environment != baked_image.environment:
        return f"REPRISE_ENVIRONMENT is {environment!r}; the image's environment is {baked_image.environment!r}"
    if not _manifest(environ["REPRISE_IMAGE"]) and not _digest(environ, "REPRISE_IMAGE_CONFIG"):
        return f"REPRISE_IMAGE is {environ['REPRISE_IMAGE']!r}; expected a digest, since a tag can move"
    return None


def _unknown(baked_image: BakedImage | None, environ: Mapping[str, str], reason: str) -> ImageClaim:
    image = Image(
        known=Knowledge.UNKNOWN,
        environment=baked_image.environment if baked_image else None,
        build_id=baked_image.build_id if baked_image else None,
        handed_build_id=_digest(environ, "REPRISE_BUILD_ID"),
        reason=reason,
    )
    return ImageClaim(image=image, layers=None, baked=baked_image)


def _manifest(reference: str) -> str | None:
    digest = reference.rpartition("@")[2]
    return digest if is_digest(digest) else None


def _digest(environ: Mapping[str, str], name: str) -> str | None:
    text = environ.get(name, "")
    return text if is_digest(text) else None


def _layers(environ: Mapping[str, str]) -> list[str] | None:
    """Return the diff IDs of the environment's layers from `REPRISE_IMAGE_LAYERS`; `None` if an entry is not a digest."""
    layers = [text for text in environ.get("REPRISE_IMAGE_LAYERS", "").split(",") if text]
    return layers if layers and all(map(is_digest, layers)) else None


def _read(path: Path, model: type[M]) -> tuple[M | None, str | None]:
    """Return the document, or the reason why it is invalid; both are `None` if the file does not exist."""
    try:
        with reading(path), suppress(FileNotFoundError), run_root(path.parent) as folder:
            return parse_json(folder.read(path.name), model, where=str(path)), None
    except DocumentError as fault:
        return None, str(fault)
    return None, None
