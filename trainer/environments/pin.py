"""The pins of environments: write, remove and restore a pin, and require that the engine has the pinned image, without a fallback."""

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

    from trainer.environments.build import BuiltImage
    from trainer.environments.engine import Engine

_HEAD = "# Written by `reprise image pin`; removed by `reprise image unpin`. The environment is exactly this image.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedImage:
    """A pinned image that the engine has and that matches the pin."""

    pin: Pin
    size: int


def pin(built: BuiltImage, repository: str, *, engine: Engine, root: Path, push: bool) -> Pin:
    """Write the pin of an image in a registry, and return it; `push` pushes the image first.

    Raise `UsageError` if `repository` is not a registry and a path, and `PinError` if the registry does not have the image's digest.
    """
    name = built.plan.inputs.environment.name
    _require_repository(repository, name)
    if built.manifest is None:
        raise PinError(
            "this engine keeps no manifests, so the image has no digest to pin",
            hint="enable its containerd image store",
        )
    reference = f"{repository}@{built.manifest}"
    if push and (image := engine.image(built.plan.tag)):
        engine.push(image, repository)
    if not engine.in_registry(reference):
        raise PinError(f"{reference} is not in its registry", hint=f"reprise image pin {name} {repository} --push")
    pinned = Pin(
        environment=name, reference=reference, config=built.config, build_id=built.plan.build_id, layers=built.layers
    )
    document = pinned.model_dump(mode="json")
    write_whole(pin_path(name, root), (_HEAD + tomli_w.dumps(document)).encode())
    return pinned


def _require_repository(repository: str, name: str) -> None:
    """Raise `UsageError` unless `repository` is a registry and a path in lower case, without a scheme, a tag or a digest."""
    normalized = re.sub(r"(?i)^[a-z]+://", "", repository).partition("@")[0]
    path, colon, tag = normalized.rpartition(":")
    normalized = (path if colon and "/" not in tag else normalized).lower()
    if normalized != repository:
        message = f"{repository!r}: expected a registry and a path in lower case, without a scheme, a tag or a digest"
        raise UsageError(message, hint=f"reprise image pin {name} {normalized or 'registry.example/team/cpu'}")


def unpin(name: str, *, root: Path) -> bool:
    """Remove the pin of an environment, and return whether it existed."""
    path = pin_path(name, root)
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed


def restore(name: str, *, engine: Engine, root: Path) -> PinnedImage:
    """Pull the pinned image if it is missing, and compare it with the pin.

    Raise `EngineError` if it cannot be pulled, and `PinError` if there is no pin or the image does not match it.
    """
    pinned = load_pin(name, root=root)
    if pinned is None:
        raise PinError(f"environment {name!r} has no pin", hint=f"reprise image build {name}")
    if engine.image(pinned.reference) is None:
        _pull(pinned, engine=engine)
    return require_pinned_image(pinned, engine=engine)


def _pull(pinned: Pin, *, engine: Engine) -> None:
    try:
        engine.pull(pinned.reference)
    except EngineAbsentError:
        raise
    except ImageMissingError as fault:
        name, repository = pinned.environment, pinned.reference.partition("@")[0]
        message = f"environment {name!r} is pinned to {pinned.reference}, which its registry does not have"
        hint = f"on a machine with the image: reprise image pin {name} {repository} --push; `reprise image unpin {name}` to build it here"
        raise ImageMissingError(message, hint=hint) from fault
    except EngineError as fault:
        name = pinned.environment
        message = f"environment {name!r} is pinned to {pinned.reference}, which could not be pulled: {fault.message}"
        hint = f"{fault.hint}; or `reprise image unpin {name}` to build the image here"
        raise type(fault)(message, hint=hint) from fault


def require_pinned_image(pinned: Pin, *, engine: Engine) -> PinnedImage:
    """Return the pinned image. Raise `ImageMissingError` if the engine lacks it, and `PinError` if it does not match the pin."""
    name = pinned.environment
    image = engine.image(pinned.reference)
    if image is None:
        remedy = f"reprise image restore {name} (scripts/train --yes does this too), or `reprise image unpin {name}` to build it here"
        raise ImageMissingError(
            f"environment {name!r} is pinned to {pinned.reference}, which is not on this machine", hint=remedy
        )
    config = engine.digests(image).config
    if config != pinned.config or image.layers != pinned.layers:
        raise PinError(
            f"{pinned.reference} has config {config}; the pin has {pinned.config}", hint=f"reprise image unpin {name}"
        )
    return PinnedImage(pin=pinned, size=image.size)


def check_inputs(pinned: Pin, build_id: str) -> None:
    """Raise `PinError` if the pinned image was built from other inputs than the checkout's."""
    if pinned.build_id != build_id:
        name = pinned.environment
        message = f"environment {name!r} is pinned to an image of build {pinned.build_id[:19]}; this checkout is build {build_id[:19]}"
        raise PinError(message, hint=f"reprise image unpin {name}, then build and pin again")
