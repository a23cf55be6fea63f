"""The identity of the image that a site's machines start: from the environment's pin, otherwise from the checkout's `.env`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trainer.base.digest import is_digest
from trainer.base.errors import ImageMismatchError, ImageMissingError, UsageError
from trainer.environments.declaration import load_environment, load_pin

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NAMES: Final = ("REPRISE_IMAGE_CONFIG", "REPRISE_IMAGE_LAYERS", "REPRISE_BUILD_ID")


def image_variables(
    declared: str | None, *, environment: str | None, dotenv: Mapping[str, str], root: Path
) -> dict[str, str]:
    """Return the variables that identify a container's image: REPRISE_ENVIRONMENT, REPRISE_IMAGE with a digest, and others.

    `declared` is the image in the site's declaration, or None. Raise `UsageError` if no environment is named, `EnvironmentNameError` if it
    does not exist, `ImageMissingError` if it has no image by digest, and `ImageMismatchError` if the site's image has another digest.
    """
    name = environment or dotenv.get("REPRISE_ENVIRONMENT")
    if not name:
        message = "neither the site nor .env names an environment, whose image the machines start"
        raise UsageError(message, hint='add to the site: environment = "cpu"')
    load_environment(name, root=root)
    found = _pinned(name, root=root) or _of_dotenv(name, dotenv)
    if found is None:
        message = (
            f"environment {name} has no image that a cluster could start: it is not pinned, and .env has none by digest"
        )
        raise ImageMissingError(message, hint=f"reprise image pin {name} registry.example/team/{name} --push")
    if declared is not None and "@" in declared:
        if declared.rpartition("@")[2] != found["REPRISE_IMAGE"].rpartition("@")[2]:
            message = f"the site's image is {declared}; environment {name} is {found['REPRISE_IMAGE']}"
            raise ImageMismatchError(message, hint="remove `image` from the site, or correct its digest")
        found["REPRISE_IMAGE"] = declared
    return {"REPRISE_ENVIRONMENT": name, **found}


def _pinned(name: str, *, root: Path) -> dict[str, str] | None:
    pin = load_pin(name, root=root)
    if pin is None:
        return None
    return {"REPRISE_IMAGE": pin.reference} | dict(
        zip(_NAMES, (pin.config, ",".join(pin.layers), pin.build_id), strict=True)
    )


def _of_dotenv(name: str, dotenv: Mapping[str, str]) -> dict[str, str] | None:
    reference = dotenv.get("REPRISE_IMAGE", "")
    if dotenv.get("REPRISE_ENVIRONMENT") != name or not is_digest(reference.rpartition("@")[2]) or "@" not in reference:
        return None
    return {"REPRISE_IMAGE": reference} | {each: dotenv[each] for each in _NAMES if dotenv.get(each)}
