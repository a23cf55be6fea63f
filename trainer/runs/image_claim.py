"""Which image this process runs in, and how much of that is known.

Knows the three witnesses: what the image says of itself (baked), what the process was told (handed in), what a
launcher on the host saw when it inspected the started container (seen). Refuses to say more than they agree on. An
image cannot know its own digest, and a build id names inputs only: without a second witness that agrees, the image is
unknown.
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
"""In the run folder; written by a launcher on the host."""
WATCHED: Final = "REPRISE_WATCHED_RUN"
"""Names the run whose folder that launcher made; the one in the container takes it over."""


class Baked(Document):
    """What an image says of itself: `/opt/reprise/image.json`."""

    format: Literal["reprise.image/1"]
    environment: str
    build_id: Digest | None
    """None in an image of compose's own build, which nobody told."""
    lock: Digest
    """Names the packages that the lock gave to the environment; in an image of compose's own build, the whole lock."""
    variables: dict[str, str] = Field(default_factory=dict)


class Seen(Document):
    """What the engine said about the image of a started container."""

    format: Literal["reprise.image-seen/1"] = "reprise.image-seen/1"
    container: str
    reference: str | None
    manifest: Digest | None = None
    config: Digest | None = None
    build_id: Digest | None = None
    """None for an image that names no inputs: it is none of Reprise."""
    layers: list[Digest] = Field(default_factory=list)
    fault: str | None = None
    """Why the engine could not be asked: then nothing was seen, and nobody need wait for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The image for the record's circumstances, its layers for the ingredients, its lock for the check before a run."""

    image: Image
    layers: list[str] | None
    baked: Baked | None


def claim(handed: Mapping[str, str], *, run: Path | None = None, baked: Path = BAKED) -> Claim:
    """Weigh the witnesses. `handed` holds the REPRISE_* values that the edge was given; `run` is the run folder."""
    itself, fault = _read(baked, Baked)
    saw, seen_fault = _read(run / SEEN, Seen) if run else (None, None)
    if itself is None:
        return _unknown(None, handed, fault or "this process runs in no image of Reprise")
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
    return Claim(image=image, layers=_layers(handed), baked=itself)


def write_seen(run: Path, seen: Seen) -> None:
    """Leave in the run folder what the engine said about the started container."""
    with disk_faults(run), run_root(run) as folder:
        folder.write_whole(SEEN, seen.model_dump_json().encode() + b"\n")


def _verified(itself: Baked, saw: Seen, handed: Mapping[str, str]) -> Claim:
    if itself.build_id is None:
        return _unknown(itself, handed, _NAMELESS)
    if saw.build_id != itself.build_id:
        seen = f"a container of build {saw.build_id}" if saw.build_id else "an image without a build id"
        return _unknown(itself, handed, f"the engine saw {seen}, which is not this one")
    told = _digest(handed, "REPRISE_BUILD_ID")
    if handed.get("REPRISE_BUILD_ID") and told != itself.build_id:
        return _unknown(itself, handed, _stale(itself, handed))
    image = Image(
        known=Knowledge.VERIFIED,
        environment=itself.environment,
        reference=saw.reference,
        manifest=saw.manifest,
        config=saw.config,
        build_id=itself.build_id,
        handed_build_id=told,
    )
    return Claim(image=image, layers=list(saw.layers) or None, baked=itself)


_NAMELESS: Final = "this image does not know its build id: `reprise image build` makes images that do"


def _stale(itself: Baked, handed: Mapping[str, str]) -> str:
    """Say what a build id is, what stands in `.env`, what the image says, what to do."""
    told = handed["REPRISE_BUILD_ID"]
    found = told if is_digest(told) else f"no digest but {told[:80]!r}"
    said = f"REPRISE_BUILD_ID, which names what an image was built from, is {found} in .env; this image says {itself.build_id}"
    return f"{said}: `scripts/setup` writes .env anew"


def _disagreement(itself: Baked, handed: Mapping[str, str]) -> str | None:
    if itself.build_id is None:
        return _NAMELESS
    told = handed.get("REPRISE_BUILD_ID", "")
    named = handed.get("REPRISE_ENVIRONMENT", "")
    if not told or not handed.get("REPRISE_IMAGE"):
        return "nothing was handed in: `scripts/setup` writes the image's identity into .env"
    if told != itself.build_id:
        return _stale(itself, handed)
    if named and named != itself.environment:
        return f"the environment handed in is {named!r}, the image's is {itself.environment!r}"
    if not _manifest(handed["REPRISE_IMAGE"]) and not _digest(handed, "REPRISE_IMAGE_CONFIG"):
        return f"it was handed in as {handed['REPRISE_IMAGE']!r}, a name that can move, without a digest"
    return None


def _unknown(itself: Baked | None, handed: Mapping[str, str], reason: str) -> Claim:
    image = Image(
        known=Knowledge.UNKNOWN,
        environment=itself.environment if itself else None,
        build_id=itself.build_id if itself else None,
        handed_build_id=_digest(handed, "REPRISE_BUILD_ID"),
        reason=reason,
    )
    return Claim(image=image, layers=None, baked=itself)


def _manifest(reference: str) -> str | None:
    digest = reference.rpartition("@")[2]
    return digest if is_digest(digest) else None


def _digest(handed: Mapping[str, str], name: str) -> str | None:
    text = handed.get(name, "")
    return text if is_digest(text) else None


def _layers(handed: Mapping[str, str]) -> list[str] | None:
    """The environment's layers, where they were handed in: `REPRISE_IMAGE_LAYERS`, diff IDs with commas between."""
    layers = [text for text in handed.get("REPRISE_IMAGE_LAYERS", "").split(",") if text]
    return layers if layers and all(map(is_digest, layers)) else None


def _read(path: Path, model: type[M]) -> tuple[M | None, str | None]:
    """The document, or why it cannot be believed; neither where it does not exist."""
    try:
        with reading(path), suppress(FileNotFoundError), run_root(path.parent) as folder:
            return parse_json(folder.read(path.name), model, where=str(path)), None
    except DocumentError as fault:
        return None, str(fault)
    return None, None
