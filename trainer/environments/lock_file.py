"""The contents of `uv.lock`: the packages that it installs in an environment, and packages built for another torch.

This module uses only the standard library: `scripts/lock` runs it before any package is installed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

MACHINE: Final = {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "os_name": "posix",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}
"""The values of markers in every image."""
PYTHON: Final = "3.11"
"""The Python version of Debian 12; used if no environment is selected."""
_OPERATORS: Final = {"<": ast.Lt, "<=": ast.LtE, ">": ast.Gt, ">=": ast.GtE, "==": ast.Eq, "!=": ast.NotEq}
_RANGE: Final = {ast.Lt: (-1,), ast.LtE: (-1, 0), ast.Gt: (1,), ast.GtE: (0, 1), ast.Eq: (0,), ast.NotEq: (-1, 1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """A locked package with the wheels that an image can install."""

    name: str
    version: str
    source: str
    """The URL of the package's index."""
    wheels: tuple[tuple[str, str], ...]
    """File names and hashes."""
    requires: frozenset[str]
    """The names of the package's dependencies in this environment."""

    @property
    def compiled(self) -> bool:
        """Whether a wheel of the package contains machine code."""
        return any(not name.endswith("-none-any.whl") for name, _ in self.wheels)


@dataclass(frozen=True, slots=True, kw_only=True)
class _MarkerTarget:
    """The target for which markers are evaluated: a minor version of Python, a machine, and extras of the project."""

    python: str
    machine: str
    active: frozenset[str]


def packages(
    text: str, extras: Collection[str], *, group: str | None = None, python: str = PYTHON
) -> dict[str, LockedPackage]:
    """Return the packages that a lock installs for the extras, by name; with `group`, for a dependency group and the extras."""
    project, blocks_by_name = _blocks(text)
    requested = project.get("dev-dependencies", {}).get(group, []) if group else project.get("dependencies", [])
    return _closure([*requested, *_listed(project, extras)], blocks_by_name, _target(project, extras, python=python))


def requirements_digest(text: str, extras: Collection[str], *, python: str = PYTHON) -> str:
    """Return the digest of the names, versions and wheel hashes of the packages that a lock installs for the extras."""
    return _digest(packages(text, extras, python=python))


def empty_extras(
    text: str, extras: Collection[str], *, python: str, machine: str = MACHINE["platform_machine"]
) -> list[str]:
    """Return the extras that list packages, but no package for this Python and machine (`x86_64`, `aarch64`)."""
    project, _ = _blocks(text)
    target = _target(project, extras, python=python, machine=machine)
    listed = {extra: _listed(project, [extra]) for extra in extras}
    return [
        extra
        for extra, entries in listed.items()
        if entries and not any(_applies(entry.get("marker", ""), target) for entry in entries)
    ]


def moved_packages(before: str, after: str) -> list[tuple[str, str, str]]:
    """Return name, version before and version after of each package whose version differs; the version of a missing package is empty."""
    sides = [_versions(before), _versions(after)]
    return [
        (name, sides[0].get(name, ""), sides[1].get(name, ""))
        for name in sorted(sides[0].keys() | sides[1].keys())
        if sides[0].get(name) != sides[1].get(name)
    ]


def _versions(text: str) -> dict[str, str]:
    """Return the versions of each package except the project; several if environments have different versions."""
    project, blocks_by_name = _blocks(text)
    return {
        name: ", ".join(sorted({block.get("version", "") for block in blocks}))
        for name, blocks in blocks_by_name.items()
        if project not in blocks
    }


def supported_pythons(text: str) -> str:
    """Return the range of `requires-python`, such as `>=3.11, <3.14`; empty if the lock has none."""
    return str(tomllib.loads(text).get("requires-python", ""))


def supports_python(text: str, python: str) -> bool:
    """Return whether a minor version of Python, such as `3.12`, is in the range of `requires-python`."""
    clauses = [
        re.fullmatch(r"(<=|>=|==|!=|<|>)\s*([\d.]+(?:\.\*)?)", each.strip())
        for each in supported_pythons(text).split(",")
    ]
    return all(_compare_marker("python_version", python, _OPERATORS[each[1]](), each[2]) for each in clauses if each)


def tool_digest(text: str, group: str) -> str:
    """Return the digest of the packages that a lock installs for a dependency group."""
    return _digest(packages(text, (), group=group))


def undefined_extras(text: str, extras: Iterable[str]) -> list[str]:
    """Return the extras that the lock does not have."""
    return [extra for extra in extras if extra not in _blocks(text)[0].get("optional-dependencies", {})]


def extras_with(text: str, package: str) -> list[str]:
    """Return the extras that list a package directly."""
    named = _blocks(text)[0].get("optional-dependencies", {}).items()
    return [extra for extra, entries in named if any(entry["name"] == package for entry in entries)]


def misplaced(
    text: str, extras: Collection[str], *, exempt: Collection[str] = (), python: str = PYTHON
) -> list[LockedPackage]:
    """Return the packages that link torch and come from another index than torch: their import would fail.

    A package links torch if it contains machine code, and depends on torch or has a name that starts with "torch". `exempt` lists packages
    that work with every build of torch.
    """
    locked = packages(text, extras, python=python)
    torch = locked.get("torch")
    if torch is None:
        return []
    linked = (
        package
        for package in locked.values()
        if package.compiled and ("torch" in package.requires or package.name.startswith("torch"))
    )
    return [package for package in linked if package.source != torch.source and package.name not in exempt]


@lru_cache(maxsize=4)
def _blocks(text: str) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Return the project's block, and the blocks of all packages by name."""
    blocks_by_name: dict[str, list[dict[str, Any]]] = {}
    for block in tomllib.loads(text).get("package", []):
        blocks_by_name.setdefault(block["name"], []).append(block)
    own = (
        block
        for blocks in blocks_by_name.values()
        for block in blocks
        if {"editable", "virtual"} & block["source"].keys()
    )
    return next(own, {}), blocks_by_name


def any_torch_build(pyproject: str) -> list[str]:
    """Return the packages that work with every build of torch: `[tool.reprise] any-torch-build` in pyproject.toml."""
    return list(tomllib.loads(pyproject).get("tool", {}).get("reprise", {}).get("any-torch-build", []))


def _listed(block: Mapping[str, Any], extras: Iterable[str]) -> list[dict[str, Any]]:
    """Return the dependencies that a package's extras list."""
    return [entry for extra in extras for entry in block.get("optional-dependencies", {}).get(extra, [])]


def _closure(
    pending: list[dict[str, Any]], blocks_by_name: Mapping[str, list[dict[str, Any]]], target: _MarkerTarget
) -> dict[str, LockedPackage]:
    packages_found: dict[str, LockedPackage] = {}
    visited: set[tuple[str, str]] = set()
    while pending:
        entry = pending.pop()
        block = _block(entry, blocks_by_name)
        if block is None or not _applies(entry.get("marker", ""), target):
            continue
        for extra in ("", *entry.get("extra", [])):
            if (entry["name"], extra) in visited:
                continue
            visited.add((entry["name"], extra))
            pending += _listed(block, [extra]) if extra else block.get("dependencies", [])
        packages_found[entry["name"]] = _package(block, target)
    return packages_found


def _block(entry: Mapping[str, Any], blocks_by_name: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any] | None:
    """Return the block of a dependency by name, and by version and index if given."""
    named = [
        block
        for block in blocks_by_name.get(entry["name"], [])
        if entry.get("version", block.get("version")) == block.get("version")
        and entry.get("source", block["source"]) == block["source"]
    ]
    return named[0] if named else None


def _package(block: Mapping[str, Any], target: _MarkerTarget) -> LockedPackage:
    files = (
        (file.get("url", file.get("path", "")).rpartition("/")[2], file["hash"]) for file in block.get("wheels", [])
    )
    return LockedPackage(
        name=block["name"],
        version=block.get("version", ""),
        source=str(block["source"].get("registry", block["source"])),
        wheels=tuple(sorted((name, digest) for name, digest in files if _fits(name, target))),
        requires=frozenset(
            entry["name"] for entry in block.get("dependencies", []) if _applies(entry.get("marker", ""), target)
        ),
    )


def _fits(wheel: str, target: _MarkerTarget) -> bool:
    """Return whether the target's Python on Linux can install a wheel of this name."""
    python, abi, platform = wheel.removesuffix(".whl").split("-")[-3:]
    if platform != "any" and not any("linux" in tag and tag.endswith(target.machine) for tag in platform.split(".")):
        return False
    older, minor = abi in {"abi3", "none"}, int(target.python.split(".")[1])
    minors = (re.fullmatch(r"(?:cp|py)3(\d+)", tag) for tag in python.split("."))
    return any(tag in {f"cp3{minor}", "py3"} for tag in python.split(".")) or any(
        older and match is not None and int(match[1]) <= minor for match in minors
    )


def _digest(locked: Mapping[str, LockedPackage]) -> str:
    rows = sorted(
        [package.name, package.version, [list(wheel) for wheel in package.wheels]] for package in locked.values()
    )
    return f"sha256:{hashlib.sha256(json.dumps(rows, separators=(',', ':')).encode()).hexdigest()}"


# --- markers


def _target(
    project: Mapping[str, Any], extras: Iterable[str], *, python: str, machine: str = MACHINE["platform_machine"]
) -> _MarkerTarget:
    name = project.get("name", "")
    active = frozenset(f"extra-{len(name)}-{name}-{extra}" for extra in extras)
    return _MarkerTarget(python=python, machine=machine, active=active)


def _applies(marker: str, target: _MarkerTarget) -> bool:
    """Return whether a dependency's marker can be true in an image; an unreadable marker counts as true.

    A package that the first or the last release of the target's Python needs belongs to the environment.
    """
    if not marker:
        return True
    machine = {**MACHINE, "platform_machine": target.machine, "python_version": target.python}
    try:
        tree = ast.parse(marker, mode="eval").body
        return any(
            _truth(tree, {**machine, "python_full_version": f"{target.python}.{release}"}, target.active)
            for release in (0, 99)
        )
    except (SyntaxError, ValueError, KeyError):
        return True


def _truth(tree: ast.expr, machine: Mapping[str, str], extras: Collection[str]) -> bool:
    match tree:
        case ast.BoolOp(op=op, values=values):
            return (all if isinstance(op, ast.And) else any)(_truth(value, machine, extras) for value in values)
        case ast.Compare(left=ast.Name(id="extra"), ops=[op], comparators=[ast.Constant(value=str(name))]):
            return (name in extras) == isinstance(op, ast.Eq)
        case ast.Compare(left=ast.Name(id=name), ops=[op], comparators=[ast.Constant(value=str(value))]):
            return _compare_marker(name, machine[name], op, value)
    raise ValueError(ast.dump(tree))


def _compare_marker(name: str, actual: str, op: ast.cmpop, value: str) -> bool:
    if isinstance(op, ast.In | ast.NotIn):
        return (actual in value) == isinstance(op, ast.In)
    if not name.startswith("python"):
        return (actual == value) == isinstance(op, ast.Eq)
    expected = [int(part) for part in value.removesuffix(".*").split(".")]
    version = [int(part) for part in actual.split(".")]
    length = len(expected) if value.endswith(".*") or name == "python_version" else 3
    version, expected = (([*side, 0, 0])[:length] for side in (version, expected))
    return (version > expected) - (version < expected) in _RANGE[type(op)]
