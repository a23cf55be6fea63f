"""The image that this process runs in, and how well its identity is known.

There are three sources: the file baked into the image, the variables passed to the process, and the container as a launcher on the host
inspected it. An image cannot contain its own digest, and a build id identifies inputs only: unless a second source agrees with the baked
file, the image is unknown.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from pydantic import Field

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import Digest, is_digest
from trainer.base.document import Document, parse_json
from trainer.base.errors import DocumentError
from trainer.base.plain_text import reading
from trainer.base.safe_folder import run_root
from trainer.runs.record import Image, Knowledge

if TYPE_CHECKING:
    from collections.abc import Mapping

M = TypeVar("M", bound=Document)

BAKED: Final = Path("/opt/reprise/image.json")
SEEN: Final = "image-seen.json"
"""In the run's folder, written by a launcher on the host."""
WATCHED: Final = "REPRISE_WATCHED_RUN"
"""The variable with the run whose folder the launcher on the host created; the launcher in the container uses it."""


class BakedImage(Document):
    """The description baked into an image, `/opt/reprise/image.json`."""

    format: Literal["reprise.image/1"]
    environment: str
    build_id: Digest | None
    """`None` in an image built by compose itself."""
    lock: Digest
    """The digest of the packages that the lock gives to the environment; of the whole lock if compose itself built the image."""
    variables: dict[str, str] = Field(default_factory=dict)


class SeenImage(Document):
    """The image of a started container, as the engine reported it."""

    format: Literal["reprise.image-seen/1"] = "reprise.image-seen/1"
    container: str
    reference: str | None
    manifest: Digest | None = None
    config: Digest | None = None
    build_id: Digest | None = None
    """`None` if the image has no build id: Reprise did not build it."""
    layers: list[Digest] = Field(default_factory=list)
    fault: str | None = None
    """Why the engine could not be asked; the launcher in the container then does not wait for an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageClaim:
    """The image for the circumstances, its layers for the ingredients, and its baked description for the check before a run."""

    image: Image
    layers: list[str] | None
    baked: BakedImage | None


def claim_image(handed: Mapping[str, str], *, run: Path | None = None, baked: Path = BAKED) -> ImageClaim:
    """Identify the image of this process. `handed` holds the REPRISE_* variables; `run` is the run's folder."""
    itself, fault = _read(baked, BakedImage)
    saw, seen_fault = _read(run / SEEN, SeenImage) if run else (None, None)
    if itself is None:
        return _unknown(None, handed, fault or "this process does not run in an image of Reprise")
    if saw is not None and saw.fault is None:
        return _verified(itself, saw, handed)
    if reason := seen_fault or _disagreement(itself, handed):
        return _unknown(itself, handed, reason)
    reference = handed["REPRISE_IMAGE"]
    image = Image(
        known=Knowledge.ASSERTED,
        environment=itself.environment,
        reference=reference,
        manifest=_manifest(reference),
        config=_digest(handed, "REPRISE_IMAGE_CONFIG"),
        build_id=itself.build_id,
        handed_build_id=itself.build_id,
    )
    return ImageClaim(image=image, layers=_layers(handed), baked=itself)


def write_seen(run: Path, seen: SeenImage) -> None:
    """Write the image that the engine reported into the run's folder."""
    with disk_faults(run), run_root(run) as folder:
        folder.write_whole(SEEN, seen.model_dump_json().encode() + b"\n")


def _verified(itself: BakedImage, saw: SeenImage, handed: Mapping[str, str]) -> ImageClaim:
    if itself.build_id is None:
        return _unknown(itself, handed, _NO_BUILD_ID)
    if saw.build_id != itself.build_id:
        seen = f"a container of build {saw.build_id}" if saw.build_id else "an image without a build id"
        return _unknown(itself, handed, f"the engine reported {seen}, not the image of this process")
    passed = _digest(handed, "REPRISE_BUILD_ID")
    if handed.get("REPRISE_BUILD_ID") and passed != itself.build_id:
        return _unknown(itself, handed, _stale(itself, handed))
    image = Image(
        known=Knowledge.VERIFIED,
        environment=itself.environment,
        reference=saw.reference,
        manifest=saw.manifest,
        config=saw.config,
        build_id=itself.build_id,
        handed_build_id=passed,
    )
    return ImageClaim(image=image, layers=list(saw.layers) or None, baked=itself)


_NO_BUILD_ID: Final = "this image has no build id: build it with `reprise image build`"


def _stale(itself: BakedImage, handed: Mapping[str, str]) -> str:
    build_id = handed["REPRISE_BUILD_ID"]
    found = build_id if is_digest(build_id) else f"no digest but {build_id[:80]!r}"
    fault = f"REPRISE_BUILD_ID, which identifies the inputs of an image, is {found} in .env; this image has {itself.build_id}"
    return f"{fault}: `scripts/setup` updates .env"


def _disagreement(itself: BakedImage, handed: Mapping[str, str]) -> str | None:
    if itself.build_id is None:
        return _NO_BUILD_ID
    build_id = handed.get("REPRISE_BUILD_ID", "")
    environment = handed.get("REPRISE_ENVIRONMENT", "")
    if not build_id or not handed.get("REPRISE_IMAGE"):
        return "no image identity was passed to this process: `scripts/setup` writes it into .env"
    if build_id != itself.build_id:
        return _stale(itself, handed)
    if environment and environment != itself.environment:
        return f"REPRISE_ENVIRONMENT is {environment!r}; the image's environment is {itself.environment!r}"
    if not _manifest(handed["REPRISE_IMAGE"]) and not _digest(handed, "REPRISE_IMAGE_CONFIG"):
        return f"REPRISE_IMAGE is {handed['REPRISE_IMAGE']!r}; expected a digest, since a tag can move"
    return None


def _unknown(itself: BakedImage | None, handed: Mapping[str, str], reason: str) -> ImageClaim:
    image = Image(
        known=Knowledge.UNKNOWN,
        environment=itself.environment if itself else None,
        build_id=itself.build_id if itself else None,
        handed_build_id=_digest(handed, "REPRISE_BUILD_ID"),
        reason=reason,
    )
    return ImageClaim(image=image, layers=None, baked=itself)


def _manifest(reference: str) -> str | None:
    digest = reference.rpartition("@")[2]
    return digest if is_digest(digest) else None


def _digest(handed: Mapping[str, str], name: str) -> str | None:
    text = handed.get(name, "")
    return text if is_digest(text) else None


def _layers(handed: Mapping[str, str]) -> list[str] | None:
    """Return the environment's layers from `REPRISE_IMAGE_LAYERS`: diff IDs separated by commas."""
    layers = [text for text in handed.get("REPRISE_IMAGE_LAYERS", "").split(",") if text]
    return layers if layers and all(map(is_digest, layers)) else None


def _read(path: Path, model: type[M]) -> tuple[M | None, str | None]:
    """Return the document, or why it is invalid; neither if the file does not exist."""
    try:
        with reading(path), suppress(FileNotFoundError), run_root(path.parent) as folder:
            return parse_json(folder.read(path.name), model, where=str(path)), None
    except DocumentError as fault:
        return None, str(fault)
    return None, None
