"""Declarations of environments, `environments/<name>.toml`, their pins, and the inputs of a build with their build ID."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from trainer.base.digest import Digest, digest_of_document, digest_of_file
from trainer.base.document import Document, read_toml, typed
from trainer.base.errors import DocumentError, EnvironmentNameError
from trainer.base.plain_text import read_text
from trainer.base.suggestions import did_you_mean
from trainer.environments.lock_file import (
    empty_extras,
    packages,
    requirements_digest,
    supported_pythons,
    supports_python,
    tool_digest,
    undefined_extras,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME: Final = r"^[a-z0-9][a-z0-9-]{0,30}$"
FOLDER: Final = "environments"
_LARGEST: Final = 1 << 20
"""The maximum size of a declaration or a pin, in bytes."""
RECIPES: Final = (
    "docker/Dockerfile",
    "docker/describe",
    "docker/install-packages",
    "docker/install-system",
    "docker/install-uv",
)
BAKED_SCRIPTS: Final = ("trainer/environments/inventory.py", "trainer/environments/import_test.py")
"""Scripts run by the build: one writes the baked inventory, the other fails if a package cannot be imported."""

Base = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9./:_-]+@sha256:[0-9a-f]{64}$")]
"""An image reference with its digest, since a tag can move."""
Package = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
Python = Annotated[str, StringConstraints(pattern=r"^3\.[0-9]{1,2}$")]
"""A minor version, such as `3.11`."""
Extra = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]
Value = Annotated[str, StringConstraints(pattern=r'^[^\n"$\\]*$')]
"""A variable's value: one line that needs no quoting."""


class Environment(Document):
    """An environment; the versions of its Python packages are in the lock."""

    name: str = Field(pattern=NAME)
    base: Base
    python: Python
    """The version in the base's Debian, which `requires-python` in pyproject.toml must allow."""
    extras: tuple[Extra, ...] = Field(min_length=1)
    packages: tuple[Package, ...]
    """Debian packages by name; the image's inventory lists their versions, which depend on the day of the build."""
    variables: dict[Variable, Value] = {}


class Declaration(Document):
    """The declaration as written. `like` names an environment from which this one inherits, and which must not have `like`."""

    like: str | None = None
    base: Base | None = None
    python: Python | None = None
    extras: tuple[Extra, ...] = Field(min_length=1)
    packages: tuple[Package, ...] | None = None
    variables: dict[Variable, Value] | None = None

    @model_validator(mode="after")
    def _require_fields(self) -> Declaration:
        """Require every field if `like` is missing."""
        missing = [name for name in ("base", "python", "packages") if self.like is None and getattr(self, name) is None]
        if missing:
            raise ValueError(f"{missing[0]!r} is missing; expected this key, or `like`")
        return self


class Pin(Document):
    """A committed pin: the image of an environment, by digest in a registry."""

    format: Literal["reprise.pin/1"] = "reprise.pin/1"
    environment: str = Field(pattern=NAME)
    reference: Base
    config: Digest
    build_id: Digest
    layers: tuple[Digest, ...]

    @property
    def manifest(self) -> str:
        """The manifest digest in the reference."""
        return self.reference.rpartition("@")[2]


class Inputs(Document):
    """The known inputs of a build; the build ID is their digest."""

    environment: Environment
    base: str
    """The reference of the base image: the declared base, or a local base if no registry can be reached."""
    lock: Digest
    """The digest of the packages that the lock installs in this environment, independent of other environments."""
    recipes: dict[str, Digest]
    """The digests of the files that build an image, and of `uv`, which installs the packages."""

    @property
    def build_id(self) -> str:
        """The digest of the inputs. It does not identify the image, since Debian's archive changes."""
        return digest_of_document(self.model_dump(mode="json"))


def environment_names(root: Path) -> list[str]:
    """Return the environments that a checkout declares."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.toml") if re.match(NAME, path.stem))


def load_environment(name: str, *, root: Path) -> Environment:
    """Read a declaration. Raise `EnvironmentNameError` if it does not exist, and `DocumentError` if it is invalid."""
    own = _read_declaration(name, root=root)
    fields = own.model_dump(exclude={"like"}, exclude_none=True)
    if own.like is None:
        return typed({"name": name, **fields}, Environment, where=str(_path(name, root)))
    other = _read_declaration(own.like, root=root)
    if other.like is not None:
        hint = f"write `like = {other.like!r}`"
        raise DocumentError(
            f"{_path(name, root)}: like {own.like!r} is itself like {other.like!r}; expected an environment without `like`",
            hint=hint,
        )
    inherited = other.model_dump(exclude={"like"}, exclude_none=True)
    variables = {**(other.variables or {}), **(own.variables or {})}
    return typed(
        {"name": name, **inherited, **fields, "variables": variables}, Environment, where=str(_path(name, root))
    )


def load_pin(name: str, *, root: Path) -> Pin | None:
    """Return the pin of an environment, or None if it is not pinned. Raise `DocumentError` if the pin is invalid."""
    path = pin_path(name, root)
    if not path.exists():
        return None
    pin = read_toml(path, Pin, most=_LARGEST)
    if pin.environment != name:
        raise DocumentError(f"{path} pins {pin.environment!r}; expected {name!r}", hint=f"reprise image unpin {name}")
    return pin


def pin_path(name: str, root: Path) -> Path:
    """Return the path of an environment's pin."""
    return root / FOLDER / f"{name}.pin.toml"


def inputs_of(environment: Environment, *, base: str, root: Path) -> Inputs:
    """Collect a build's inputs from a checkout."""
    recipes = {name: digest_of_file(root / name) for name in (*RECIPES, *BAKED_SCRIPTS)}
    recipes["uv"] = tool_digest(read_lock(root), "uv")
    return Inputs(environment=environment, base=base, lock=requirements_of(environment, root=root), recipes=recipes)


def requirements_of(environment: Environment, *, root: Path) -> str:
    """Return the digest of the packages that the lock installs in an environment.

    Raise `DocumentError` if an extra is not locked or is empty for the environment's Python, or if `requires-python` excludes it.
    """
    text = read_lock(root)
    _require_python(environment, text)
    if missing := undefined_extras(text, environment.extras):
        message = f"environment {environment.name}: uv.lock has no extra {missing[0]!r}"
        raise DocumentError(
            message, hint="add it to [project.optional-dependencies] of pyproject.toml, then run scripts/lock"
        )
    return requirements_digest(text, environment.extras, python=environment.python)


def _require_python(environment: Environment, lock: str) -> None:
    """Raise `DocumentError` if the lock does not support the environment's Python."""
    python, name = environment.python, environment.name
    if not supports_python(lock, python):
        raise DocumentError(
            f"environment {name}: python is {python!r}; expected a version in requires-python, {supported_pythons(lock)}",
            hint="edit requires-python in pyproject.toml, then run scripts/lock; or edit `python` in environments/{name}.toml",
        )
    if empty := empty_extras(lock, environment.extras, python=python):
        raise DocumentError(
            f"environment {name}: the markers of extra {empty[0]!r} leave no package for Python {python}",
            hint=f"edit the markers of {empty[0]!r} in pyproject.toml, then run scripts/lock",
        )


def read_lock(root: Path) -> str:
    """Return the text of the checkout's lock. Raise `DocumentError` if the lock does not exist or is invalid."""
    path = root / "uv.lock"
    if not path.is_file():
        raise DocumentError(f"{path} does not exist", hint="run scripts/lock")
    text = read_text(path)
    try:
        packages(text, ())
    except (DocumentError, ValueError, LookupError, TypeError, AttributeError) as fault:
        hint = "git checkout uv.lock, then run scripts/lock"
        raise DocumentError(f"{path} is not a uv lock file: {fault}", hint=hint) from fault
    return text


def image_json(inputs: Inputs) -> Mapping[str, object]:
    """Return the description baked into an image, `/opt/reprise/image.json`."""
    return {
        "format": "reprise.image/1",
        "environment": inputs.environment.name,
        "build_id": inputs.build_id,
        "lock": inputs.lock,
        "variables": inputs.environment.variables,
    }


def _read_declaration(name: str, *, root: Path) -> Declaration:
    if name not in environment_names(root):
        raise EnvironmentNameError(f"unknown environment {name!r}", hint=did_you_mean(name, environment_names(root)))
    return read_toml(_path(name, root), Declaration, most=_LARGEST)


def _path(name: str, root: Path) -> Path:
    return root / FOLDER / f"{name}.toml"
