"""Changes of the environments' dependencies: edits of `pyproject.toml` and `environments/*.toml` that keep comments and layout."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import tomlkit

from trainer.base.document import parse_toml
from trainer.base.errors import UsageError
from trainer.base.plain_text import read_text
from trainer.base.suggestions import did_you_mean
from trainer.environments.declaration import FOLDER, environment_names, load_environment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

PROJECT: Final = "pyproject.toml"
_REQUIREMENT: Final = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?P<parts>\[[A-Za-z0-9._, -]+\])?"
    r"\s*(?P<version>(?:(?:[<>]=?|[=!~]=)\s*[A-Za-z0-9.*+!_-]+\s*,?\s*)*)"
)
_SYSTEM: Final = re.compile(r"[a-z0-9][a-z0-9+.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """A package with its optional parts (`[s3]`) and versions (`>=1,<2`), both empty if not given."""

    name: str
    parts: str = ""
    version: str = ""

    def __str__(self) -> str:
        """Return the requirement as it is written into `pyproject.toml`, without a marker."""
        return f"{self.name}{self.parts}{self.version}"


def parse_requirement(text: str) -> Requirement:
    """Parse a requirement that the user typed. Raise `UsageError` if it has a marker, or is a URL or a path."""
    match = _REQUIREMENT.fullmatch(text.strip())
    if match is None:
        system = f"; a Debian package: reprise add --system {text}" if _SYSTEM.fullmatch(text) else ""
        raise UsageError(
            f"{text!r} is not the name of a package in an index; expected a name, with versions if needed, such as 'einops>=0.8'",
            hint=f"environments take markers and hashes from pyproject.toml and uv.lock{system}",
        )
    return Requirement(
        name=normalized(match["name"]), parts=match["parts"] or "", version=re.sub(r"\s+", "", match["version"])
    )


def normalized(name: str) -> str:
    """Return the normalized name of a package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def extras_with_torch(root: Path) -> list[str]:
    """Return the extras that list torch, which are the extras of the environments that train."""
    extras = _extras(_project(root))
    return [extra for extra, lines in extras.items() if any(_name(line) == "torch" for line in lines)]


def environments_with(extras: Collection[str], *, root: Path) -> list[str]:
    """Return the environments that install any of the extras."""
    return [name for name in environment_names(root) if {*load_environment(name, root=root).extras} & {*extras}]


def own_extra(environment: str, *, root: Path) -> str:
    """Return the extra for packages of one environment only: it has the environment's name, or `NAME-only` if that extra is shared."""
    others = [name for name in environment_names(root) if name != environment]
    shared = {extra for name in others for extra in load_environment(name, root=root).extras}
    return environment if environment not in shared else f"{environment}-only"


def add_requirement(requirement: Requirement, *, extras: Iterable[str], marker: str, root: Path) -> None:
    """Add a package to extras of `pyproject.toml`, or replace its line; create extras that do not exist."""
    document = _project(root)
    optional = document["project"].setdefault("optional-dependencies", tomlkit.table())
    line = f"{requirement} ; {marker}" if marker else str(requirement)
    for extra in extras:
        if extra not in optional:
            optional[extra] = tomlkit.array().multiline(multiline=True)
        lines = optional[extra]
        names = [_name(each) for each in lines]
        if requirement.name in names:
            lines[names.index(requirement.name)] = line
        else:
            lines.insert(next((at for at, name in enumerate(names) if name > requirement.name), len(names)), line)
    _write(root / PROJECT, document)


def listed(name: str, *, root: Path) -> dict[str, str]:
    """Return the line of a package, without its marker, in each extra that lists it."""
    extras = _extras(_project(root))
    return {
        extra: line.partition(";")[0].strip()
        for extra, lines in extras.items()
        for line in lines
        if _name(line) == name
    }


def marker_of(extras: Iterable[str], *, root: Path) -> str:
    """Return the marker of the first package that the extras list, or an empty string."""
    known = _extras(_project(root))
    lines = [line for extra in extras for line in known.get(extra, ())]
    return lines[0].partition(";")[2].strip() if lines else ""


def use_extra(environment: str, extra: str, *, root: Path) -> None:
    """Add an extra to the declaration of an environment."""
    document = _declaration(environment, root)
    if extra not in document["extras"]:
        document["extras"].append(extra)
        _write(_path(environment, root), document)


def take_from_torchs_index(name: str, *, environment: str, extras: Collection[str], root: Path) -> None:
    """Make the index of the environment's torch the source of a package in the extras.

    The package is exempted from `exclude-newer`, since the index may have no upload times. Each of the extras without torch is declared to
    conflict with the extras of other environments' torch, as uv requires.
    """
    document = _project(root)
    uv = document["tool"]["uv"]
    installed = load_environment(environment, root=root).extras
    torch = [entry for entry in _entries(uv["sources"]["torch"]) if entry.get("extra") in installed]
    known = _entries(uv["sources"].get(name, []))
    new = [{"index": entry["index"], "extra": extra} for entry in torch for extra in extras]
    uv["sources"][name] = _tables([*known, *(entry for entry in new if entry not in known)])
    if "exclude-newer" in uv:
        _exclude(uv, {name: False})
    own = [extra for extra in extras if extra not in {entry["extra"] for entry in torch}]
    for extra in own:
        for other in extras_with_torch(root):
            if other not in installed:
                _add_conflict(uv, extra, other)
    _write(root / PROJECT, document)


def remove_requirement(name: str, *, extras: Collection[str], root: Path) -> None:
    """Remove a package and its sources from extras; remove an extra that becomes empty if its environments have another extra."""
    document = _project(root)
    optional = document["project"]["optional-dependencies"]
    for extra in extras:
        names = [_name(line) for line in optional[extra]]
        del optional[extra][names.index(name)]
    _remove_sources(document["tool"]["uv"], name, keep=_listing(name, document))
    _write(root / PROJECT, document)
    for extra in [extra for extra in extras if not optional[extra]]:
        _remove_extra(extra, root=root)


def listed_names(root: Path, extras: Collection[str] | None = None) -> list[str]:
    """Return the names of the packages that `extras` list (default: all extras)."""
    return sorted(
        {
            _name(line)
            for extra, lines in _extras(_project(root)).items()
            for line in lines
            if extras is None or extra in extras
        }
    )


def add_system_packages(names: Sequence[str], *, environment: str, root: Path) -> None:
    """Add Debian packages to the declaration of an environment; an inherited list is copied into the declaration first."""
    packages = [*load_environment(environment, root=root).packages]
    _require_system_names(names)
    _set_system_packages(environment, [*packages, *(name for name in names if name not in packages)], root=root)


def remove_system_packages(names: Sequence[str], *, environment: str, root: Path) -> None:
    """Remove Debian packages from the declaration of an environment. Raise `UsageError` if the environment does not have a package."""
    packages = load_environment(environment, root=root).packages
    for name in names:
        if name not in packages:
            raise UsageError(
                f"environment {environment} has no system package {name!r}", hint=did_you_mean(name, packages)
            )
    _set_system_packages(environment, [each for each in packages if each not in names], root=root)


def declares_packages(environment: str, *, root: Path) -> bool:
    """Return whether a declaration lists system packages itself, instead of inheriting them."""
    return "packages" in _declaration(environment, root)


def _require_system_names(names: Iterable[str]) -> None:
    for name in names:
        if not _SYSTEM.fullmatch(name):
            raise UsageError(
                f"{name!r} is not a Debian package; expected a name without a version, such as libgl1",
                hint="a Python package: reprise add PACKAGE, without --system",
            )


def _set_system_packages(environment: str, packages: Sequence[str], *, root: Path) -> None:
    document = _declaration(environment, root)
    if "packages" not in document:
        document["packages"] = _value("[" + ", ".join(f'"{name}"' for name in sorted(packages)) + "]")
    written = document["packages"]
    for name in [each for each in written if each not in packages]:
        written.remove(name)
    for name in packages:
        if name not in written:
            written.insert(next((at for at, each in enumerate(written) if each > name), len(written)), name)
    _write(_path(environment, root), document)


def _remove_extra(extra: str, *, root: Path) -> None:
    using = environments_with([extra], root=root)
    if any(len(load_environment(name, root=root).extras) == 1 for name in using):
        return
    for name in using:
        document = _declaration(name, root)
        document["extras"].remove(extra)
        _write(_path(name, root), document)
    document = _project(root)
    del document["project"]["optional-dependencies"][extra]
    conflicts = document["tool"]["uv"].get("conflicts", [])
    for at in reversed(range(len(conflicts))):
        if any(entry.get("extra") == extra for entry in conflicts[at]):
            del conflicts[at]
    _write(root / PROJECT, document)


def _remove_sources(uv: Any, name: str, *, keep: Collection[str]) -> None:
    sources, free = uv.get("sources", {}), uv.get("exclude-newer-package", {})
    entries = [entry for entry in _entries(sources.get(name, [])) if entry.get("extra") in keep]
    if entries:
        sources[name] = _tables(entries)
    elif name in sources:
        del sources[name]
        if name in free:
            _exclude(uv, {name: None})


def _exclude(uv: Any, changes: dict[str, bool | None]) -> None:
    """Change `exclude-newer-package`, and keep its comment."""
    before = uv.get("exclude-newer-package", {})
    values = {name: value for name, value in {**before, **changes}.items() if value is not None}
    table = _value("{ " + ", ".join(f"{name} = {_toml(value)}" for name, value in values.items()) + " }")
    if "exclude-newer-package" in uv:
        table.trivia.comment_ws, table.trivia.comment = before.trivia.comment_ws, before.trivia.comment
    uv["exclude-newer-package"] = table


def _toml(value: object) -> str:
    return tomlkit.item(value).as_string()


def _add_conflict(uv: Any, extra: str, other: str) -> None:
    conflicts = uv.setdefault("conflicts", _value("[]"))
    pairs = [{entry.get("extra") for entry in pair} for pair in conflicts]
    if not any({extra, other} <= pair for pair in pairs):
        conflicts.append(_tables([{"extra": extra}, {"extra": other}]))


def _tables(entries: Iterable[dict[str, str]]) -> Any:
    rows = ("{ " + ", ".join(f"{key} = {_toml(value)}" for key, value in entry.items()) + " }" for entry in entries)
    return _value(f"[{', '.join(rows)}]")


def _entries(value: Any) -> list[dict[str, str]]:
    """Return a package's sources: uv accepts one table or a list of tables."""
    return [dict(entry) for entry in (value if isinstance(value, list) else [value])]


def _value(text: str) -> Any:
    """Parse a TOML value, and keep the layout of its text."""
    return tomlkit.parse(f"value = {text}\n")["value"]


def _listing(name: str, document: Any) -> list[str]:
    """Return the extras of a document that list a package."""
    return [extra for extra, lines in _extras(document).items() if any(_name(line) == name for line in lines)]


def _extras(document: Any) -> dict[str, list[str]]:
    extras = document["project"].get("optional-dependencies", {})
    return {str(extra): [str(line) for line in lines] for extra, lines in extras.items()}


def _name(line: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", line)
    return normalized(match[0]) if match else ""


def _project(root: Path) -> Any:
    return _parsed(root / PROJECT)


def _declaration(environment: str, root: Path) -> Any:
    return _parsed(_path(environment, root))


def _parsed(path: Path) -> Any:
    text = read_text(path)
    parse_toml(text, where=str(path))
    return tomlkit.parse(text)


def _path(environment: str, root: Path) -> Path:
    return root / FOLDER / f"{environment}.toml"


def _write(path: Path, document: Any) -> None:
    path.write_text(tomlkit.dumps(document), encoding="utf-8")
