"""Pins: committing that an environment is one image in one registry, obeying that, and taking it back.

Knows what a pin may be written for and what obeying it means. Refuses to build, and to fall back to anything: a pin holds or fails.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tomli_w

from trainer.base.atomic_file import write_whole
from trainer.base.errors import EngineAbsentError, EngineError, ImageMissingError, PinError, UsageError
from trainer.environments.declaration import Pin, load_pin, pin_path

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.environments.build import Built
    from trainer.environments.engine import Engine

_HEAD = "# Written by `reprise image pin`; taken back by `reprise image unpin`. The environment is this image, and no other.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A pinned image that the engine has, and that is what the pin says."""

    pin: Pin
    size: int


def pin(built: Built, repository: str, *, engine: Engine, root: Path, push: bool) -> Pin:
    """Write the pin of an image that is in a registry. Raises `UsageError`, `PinError` if it is not there under this digest."""
    name = built.plan.inputs.environment.name
    _require_repository(repository, name)
    if built.manifest is None:
        raise PinError(
            "this engine keeps no manifests, so the image has no digest to pin",
            hint="turn on its containerd image store",
        )
    reference = f"{repository}@{built.manifest}"
    if push and (image := engine.image(built.plan.tag)):
        engine.push(image, repository)
    if not engine.in_registry(reference):
        raise PinError(f"{reference} is in no registry", hint=f"reprise image pin {name} {repository} --push")
    made = Pin(
        environment=name, reference=reference, config=built.config, build_id=built.plan.build_id, layers=built.layers
    )
    document = made.model_dump(mode="json")
    write_whole(pin_path(name, root), (_HEAD + tomli_w.dumps(document)).encode())
    return made


def _require_repository(repository: str, name: str) -> None:
    """A registry and a path: an image is named by its digest, so a tag or a digest of the user's would say something else."""
    plain = re.sub(r"(?i)^[a-z]+://", "", repository).partition("@")[0]
    path, colon, tag = plain.rpartition(":")
    plain = (path if colon and "/" not in tag else plain).lower()
    if plain != repository:
        said = f"{repository!r}: expected a registry and a path in lower case, without a scheme, a tag or a digest"
        raise UsageError(said, hint=f"reprise image pin {name} {plain or 'registry.example/team/cpu'}")


def unpin(name: str, *, root: Path) -> bool:
    """Take the pin back; False where there was none."""
    path = pin_path(name, root)
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed


def restore(name: str, *, engine: Engine, root: Path) -> Held:
    """Fetch the pinned image if it is missing, and check that it is what the pin says. Raises `EngineError`, `PinError`."""
    pinned = load_pin(name, root=root)
    if pinned is None:
        raise PinError(f"environment {name!r} has no pin", hint=f"reprise image build {name}")
    if engine.image(pinned.reference) is None:
        _pull(pinned, engine=engine)
    return hold(pinned, engine=engine)


def _pull(pinned: Pin, *, engine: Engine) -> None:
    try:
        engine.pull(pinned.reference)
    except EngineAbsentError:
        raise
    except ImageMissingError as fault:
        name, repository = pinned.environment, pinned.reference.partition("@")[0]
        said = f"environment {name!r} is pinned to {pinned.reference}, which its registry does not have"
        hint = f"where that image is: reprise image pin {name} {repository} --push; `reprise image unpin {name}` to build it here"
        raise ImageMissingError(said, hint=hint) from fault
    except EngineError as fault:
        name = pinned.environment
        said = f"environment {name!r} is pinned to {pinned.reference}, which could not be fetched: {fault.message}"
        hint = f"{fault.hint}; or `reprise image unpin {name}` to build the image here"
        raise type(fault)(said, hint=hint) from fault


def hold(pinned: Pin, *, engine: Engine) -> Held:
    """Obey a pin: the engine has the image and it is the pinned one. Raises `ImageMissingError`, `PinError`."""
    name = pinned.environment
    image = engine.image(pinned.reference)
    if image is None:
        remedy = f"reprise image restore {name} (scripts/train --yes does it too), or `reprise image unpin {name}` to build it here"
        raise ImageMissingError(
            f"environment {name!r} is pinned to {pinned.reference}, which is not on this machine", hint=remedy
        )
    found = engine.digests(image).config
    if found != pinned.config or image.layers != pinned.layers:
        raise PinError(
            f"{pinned.reference} has config {found}; the pin says {pinned.config}", hint=f"reprise image unpin {name}"
        )
    return Held(pin=pinned, size=image.size)


def check_inputs(pinned: Pin, build_id: str) -> None:
    """Refuse a pin that was made from other inputs than the checkout's: its lock is not this lock. Raises `PinError`."""
    if pinned.build_id != build_id:
        name = pinned.environment
        said = f"environment {name!r} is pinned to an image of build {pinned.build_id[:19]}; this checkout is build {build_id[:19]}"
        raise PinError(said, hint=f"reprise image unpin {name}, then build and pin again")
