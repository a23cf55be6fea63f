"""Environments: named, pinned sets of software, as `environments/<name>.toml` declares them, and pins, the committed images of them.

Reads declarations and computes build ids from a build's inputs; building and keeping images is left to `actions`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from trainer.base.digest import Digest, digest_of_document, digest_of_file
from trainer.base.document import Document, read_toml, typed
from trainer.base.errors import DocumentError, EnvironmentNameError
from trainer.base.plain_text import read_text
from trainer.base.suggestions import did_you_mean
from trainer.environments.lock_file import packages, requirements_digest, tool_digest, undefined_extras

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME: Final = r"^[a-z0-9][a-z0-9-]{0,30}$"
FOLDER: Final = "environments"
_LARGEST: Final = 1 << 20
"""Bytes of a declaration, and of a pin."""
RECIPES: Final = (
    "docker/Dockerfile",
    "docker/describe",
    "docker/install-packages",
    "docker/install-system",
    "docker/install-uv",
)
BAKED_SCRIPTS: Final = ("trainer/environments/inventory.py", "trainer/environments/import_test.py")
"""Run in the build: the inventory is baked, and an image whose packages cannot be imported is none."""

Base = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9./:_-]+@sha256:[0-9a-f]{64}$")]
"""An image reference with its digest: a tag alone names nothing for long."""
Package = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
Extra = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]
Value = Annotated[str, StringConstraints(pattern=r'^[^\n"$\\]*$')]
"""A variable's value: one line that needs no quoting rules."""


class Environment(Document):
    """What an environment consists of; everything else about it is in the lock."""

    name: str = Field(pattern=NAME)
    base: Base
    python: Literal["3.11"]
    """Debian 12's own."""
    extras: tuple[Extra, ...] = Field(min_length=1)
    packages: tuple[Package, ...]
    """Debian packages by name; their versions are the archive's of the day, and stand in the image's inventory."""
    variables: dict[Variable, Value] = {}


class Declaration(Document):
    """The file as it is written: `like` takes over what another environment says, and nothing of a third."""

    like: str | None = None
    base: Base | None = None
    python: Literal["3.11"] | None = None
    extras: tuple[Extra, ...] = Field(min_length=1)
    packages: tuple[Package, ...] | None = None
    variables: dict[Variable, Value] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Declaration:
        """Without `like`, nothing may be left out."""
        missing = [name for name in ("base", "python", "packages") if self.like is None and getattr(self, name) is None]
        if missing:
            raise ValueError(f"{missing[0]!r} is missing, and there is no `like` to take it from")
        return self


class Pin(Document):
    """The committed statement that an environment is this image in this registry."""

    format: Literal["reprise.pin/1"] = "reprise.pin/1"
    environment: str = Field(pattern=NAME)
    reference: Base
    config: Digest
    build_id: Digest
    layers: tuple[Digest, ...]

    @property
    def manifest(self) -> str:
        """The digest in the reference."""
        return self.reference.rpartition("@")[2]


class Inputs(Document):
    """Everything that a build is a function of, as far as it can be named beforehand; the build id is its digest."""

    environment: Environment
    base: str
    """The reference the build really starts from: the declared base, or the one built here where no registry can be reached."""
    lock: Digest
    """Names the packages that the lock gives to this environment; a change for another environment leaves it as it is."""
    recipes: dict[str, Digest]
    """The files that say how an image is built, and `uv`, the program that installs the packages."""

    @property
    def build_id(self) -> str:
        """Name the inputs. It says nothing about what came out: Debian's archive moves."""
        return digest_of_document(self.model_dump(mode="json"))


def environment_names(root: Path) -> list[str]:
    """The environments that a checkout declares."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.toml") if re.match(NAME, path.stem))


def load_environment(name: str, *, root: Path) -> Environment:
    """Read a declaration. Raises `EnvironmentNameError` with the nearest names, `DocumentError` for a file that is wrong."""
    own = _declared(name, root=root)
    said = own.model_dump(exclude={"like"}, exclude_none=True)
    if own.like is None:
        return typed({"name": name, **said}, Environment, where=str(_path(name, root)))
    other = _declared(own.like, root=root)
    if other.like is not None:
        hint = f"write `like = {other.like!r}`: one step is the limit"
        raise DocumentError(f"{_path(name, root)}: like {own.like!r}, which is itself like {other.like!r}", hint=hint)
    taken = other.model_dump(exclude={"like"}, exclude_none=True)
    variables = {**(other.variables or {}), **(own.variables or {})}
    return typed({"name": name, **taken, **said, "variables": variables}, Environment, where=str(_path(name, root)))


def load_pin(name: str, *, root: Path) -> Pin | None:
    """Read the pin of an environment; None where there is none."""
    path = pin_path(name, root)
    if not path.exists():
        return None
    pin = read_toml(path, Pin, most=_LARGEST)
    if pin.environment != name:
        raise DocumentError(f"{path} pins {pin.environment!r}; expected {name!r}", hint=f"reprise image unpin {name}")
    return pin


def pin_path(name: str, root: Path) -> Path:
    """Where the pin of an environment stands."""
    return root / FOLDER / f"{name}.pin.toml"


def inputs_of(environment: Environment, *, base: str, root: Path) -> Inputs:
    """Gather a build's inputs from a checkout."""
    recipes = {name: digest_of_file(root / name) for name in (*RECIPES, *BAKED_SCRIPTS)}
    recipes["uv"] = tool_digest(read_lock(root), "uv")
    return Inputs(environment=environment, base=base, lock=requirements_of(environment, root=root), recipes=recipes)


def requirements_of(environment: Environment, *, root: Path) -> str:
    """Name the packages that the checkout's lock gives to an environment. Raises `DocumentError` for an extra without a lock."""
    text = read_lock(root)
    if missing := undefined_extras(text, environment.extras):
        said = f"environment {environment.name}: uv.lock has no extra {missing[0]!r}"
        raise DocumentError(
            said, hint="add it to [project.optional-dependencies] of pyproject.toml, then run scripts/lock"
        )
    return requirements_digest(text, environment.extras)


def read_lock(root: Path) -> str:
    """The text of the checkout's lock. Raises `DocumentError` if there is none, or no lock in it."""
    path = root / "uv.lock"
    if not path.is_file():
        raise DocumentError(f"{path} does not exist", hint="scripts/lock makes it")
    text = read_text(path)
    try:
        packages(text, ())
    except (DocumentError, ValueError, LookupError, TypeError, AttributeError) as fault:
        hint = "take it from git (git checkout uv.lock), then run scripts/lock"
        raise DocumentError(f"{path} is no lock of uv: {fault}", hint=hint) from fault
    return text


def image_json(inputs: Inputs) -> Mapping[str, object]:
    """What an image says about itself, in `/opt/reprise/image.json`."""
    return {
        "format": "reprise.image/1",
        "environment": inputs.environment.name,
        "build_id": inputs.build_id,
        "lock": inputs.lock,
        "variables": inputs.environment.variables,
    }


def _declared(name: str, *, root: Path) -> Declaration:
    if name not in environment_names(root):
        raise EnvironmentNameError(f"unknown environment {name!r}", hint=did_you_mean(name, environment_names(root)))
    return read_toml(_path(name, root), Declaration, most=_LARGEST)


def _path(name: str, root: Path) -> Path:
    return root / FOLDER / f"{name}.toml"
