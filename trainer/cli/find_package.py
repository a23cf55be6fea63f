"""Find a model package by its folder, its name or its digest."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from trainer.base.digest import is_digest
from trainer.base.errors import DocumentError, UsageError
from trainer.base.suggestions import did_you_mean, short
from trainer.cli.configuration import runs_folder
from trainer.models.package import PACKAGE, packages_in

PACKAGE_HELP: Final = "the folder of a package, its name as `reprise packages ls` lists it, or its digest"
MOUNTED: Final = "/package"
"""The path at which the compose service `serve` mounts the folder of a package."""
_PREFIX: Final = "sha256:"
_SHORT: Final = 12


def known_package(word: str) -> Path | None:
    """Return the folder of the package that a word names; `None` if no package on this machine has the name."""
    if not word:
        return None
    if (Path(word) / PACKAGE).is_file():
        return Path(word)
    digits = word.removeprefix(_PREFIX)[:_SHORT]
    for path in packages_in(runs_folder()):
        if word == path.name or (word.startswith(_PREFIX) and path.name.endswith(f"-{digits}")):
            return path
    return None


def find_package(word: str) -> Path:
    """Return the folder of the package that a word names. Raise `DocumentError` if no package on this machine has the name."""
    if found := known_package(word):
        return found
    if word == MOUNTED:
        hint = "REPRISE_PACKAGE=FOLDER docker compose up serve"
        raise DocumentError("REPRISE_PACKAGE is not set to the folder of a package", hint=hint)
    names = [path.name for path in packages_in(runs_folder())]
    hint = (
        did_you_mean(word, names)
        if names
        else "reprise package RUN writes a package; reprise packages pull DIGEST downloads a package"
    )
    raise DocumentError(f"{short(word)!r} is not a package on this machine", hint=hint)


def digest_of(word: str) -> str:
    """Return the digest that a word spells, with or without its prefix. Raise `UsageError` if the word is not a digest."""
    digest = word if word.startswith(_PREFIX) else f"{_PREFIX}{word}"
    if not is_digest(digest):
        raise UsageError(
            f"{short(word)!r} is not the digest of a package",
            hint="reprise packages push prints the digest; reprise packages ls --json lists all digests",
        )
    return digest
