"""The lock after a change of dependencies: `scripts/lock`, its errors, and packages that must come from the index of torch."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from trainer.base.errors import LockError, UsageError
from trainer.base.plain_text import read_text
from trainer.base.suggestions import did_you_mean
from trainer.environments.declaration import load_environment, read_lock
from trainer.environments.dependencies import (
    PROJECT,
    Requirement,
    add_requirement,
    environments_with,
    extras_with_torch,
    listed,
    listed_names,
    marker_of,
    own_extra,
    remove_requirement,
    take_from_torchs_index,
    use_extra,
)
from trainer.environments.lock_file import any_torch_build, misplaced, packages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ROUNDS: Final = 5
"""The maximum length of a chain of dependencies that link torch, such as timm, which needs torchvision."""
_NO_WHEEL: Final = re.compile(r"no usable wheels|-compatible wheels|no wheels with a matching")
_WHEELLESS: Final = re.compile(r"Wheels are (?:required|available) for `([^`]+)`|all versions of (\S+) cannot")
_UNREACHABLE: Final = re.compile(r"Failed to fetch|ould not connect|error sending request|onnectivity is disabled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The environments of a change, the extras to edit, and the environment's name if the change is for a single environment."""

    environments: tuple[str, ...]
    extras: tuple[str, ...]
    only: str | None = None


def scope_of(environment: str | None, *, root: Path) -> Scope:
    """Return the scope of one environment, or of every environment that has torch."""
    if environment:
        return Scope(environments=(environment,), extras=(own_extra(environment, root=root),), only=environment)
    extras = extras_with_torch(root)
    return Scope(environments=tuple(environments_with(extras, root=root)), extras=tuple(extras))


def add_packages(requirements: Sequence[Requirement], scope: Scope, *, root: Path) -> None:
    """Add packages to the extras of a scope and lock them. The locked version is the lower bound if the requirement has no version.

    A package that links torch is taken from torch's index and pinned, since it belongs to one version of torch. Raise `LockError` if a
    package cannot be locked, and `UsageError` if a package is already listed.
    """
    before = listed_names(root)
    for each in requirements:
        _require_new(each, scope, root)
        _list(each, scope, root)
    lock(root, name=requirements[0].name, any_torch=True)
    linked = _take_linked_from_torchs_index(scope, root)
    brought = {name: Requirement(name=name) for name in linked if name not in before}
    new = brought | {each.name: each for each in requirements}
    locked = packages(
        read_lock(root), load_environment(scope.environments[0], root=root).extras, python=_python(scope, root)
    )
    torch = locked.get("torch")
    for each in new.values():
        package = locked[each.name]
        bound = "==" if each.name in linked or (torch and package.compiled and "torch" in package.requires) else ">="
        version = each.version or f"{bound}{package.version.partition('+')[0]}"
        add_requirement(
            replace(each, version=version),
            extras=_listing(each.name, scope, root),
            marker=_marker(scope, root),
            root=root,
        )
    lock(root, name=requirements[0].name)


def remove_packages(names: Sequence[str], scope: Scope, *, root: Path) -> None:
    """Remove packages from the extras of a single environment, or from every extra, and lock.

    Raise `UsageError` if a package is not listed, and `LockError` if the lock cannot be created.
    """
    for name in names:
        listing = [*listed(name, root=root)]
        extras = [extra for extra in listing if scope.only is None or extra in scope.extras]
        if not extras:
            raise _unlisted(name, listing, scope, root)
        remove_requirement(name, extras=extras, root=root)
    lock(root, name=names[0])


def lock(root: Path, *, name: str, any_torch: bool = False) -> None:
    """Create the lock with `scripts/lock`. Raise `LockError`, which names the package `name`, if this fails.

    With `any_torch`, a package that links torch may come from another index than torch.
    """
    words = [str(root / "scripts" / "lock"), *(["--any-torch"] if any_torch else [])]
    result = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode:
        raise lock_error(result.stdout, name)


def lock_error(output: str, name: str) -> LockError:
    """Return the error for the output of `scripts/lock`: uv's conclusion, and possible fixes."""
    text = re.sub(r"\{[^{}]*\}", "", output)  # remove the markers, which uv writes in braces after each name
    other = f"another version: reprise add '{name}==VERSION'"
    if f"there are no versions of {name} " in " ".join(text.split()) or f"{name} was not found" in text:
        hint = f"check the spelling; for a Debian package: reprise add --system {name}; for your own index: docs/how-to/mirror.md"
        return LockError(f"the package index has no package {name!r}", hint=hint)
    if _NO_WHEEL.search(text):
        match = _WHEELLESS.search(text)
        message = f"{(match and (match[1] or match[2])) or name} has no wheel for the images, and nothing is built from source"
        hint = (
            f"{other}; or a package with wheels, often {name}-binary; or a wheel that you build once: "
            "docs/how-to/environments.md, A package without a wheel"
        )
        return LockError(message, hint=hint)
    if _UNREACHABLE.search(text):
        lines = [" ".join(line.split()) for line in text.splitlines() if _UNREACHABLE.search(line)]
        return LockError(f"{name} cannot be locked: {lines[-1].removeprefix('cause: ')}", hint="docs/how-to/mirror.md")
    if own := re.search(r"^(?:uv\.lock|pyproject\.toml): (.*)\n  -> (.*)", text, re.MULTILINE):
        return LockError(f"{name} cannot be locked: {own[1]}", hint=own[2])
    return LockError(f"{name} cannot be locked: {_reason(text)}", hint=other)


def _reason(text: str) -> str:
    """Return the first conclusion of uv's explanation, or the last line if there is no conclusion."""
    match = re.search(r"Because (.*?), we can conclude", " ".join(text.split()))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return match[1] if match else lines[-1] if lines else "uv reported nothing"


def _require_new(requirement: Requirement, scope: Scope, root: Path) -> None:
    known = listed(requirement.name, root=root)
    if not requirement.version and {*scope.extras} <= {*known}:
        raise UsageError(
            f"{requirement.name} is already in {', '.join(scope.extras)}: {known[scope.extras[0]]}",
            hint=f"to change its version: reprise add '{requirement.name}==VERSION'",
        )


def _list(requirement: Requirement, scope: Scope, root: Path) -> None:
    """Add a package to the extras of a scope, with the marker of the environment's other packages."""
    add_requirement(requirement, extras=scope.extras, marker=_marker(scope, root), root=root)
    if scope.only:
        use_extra(scope.only, scope.extras[0], root=root)


def _marker(scope: Scope, root: Path) -> str:
    return marker_of([*load_environment(scope.environments[0], root=root).extras, *scope.extras], root=root)


def _python(scope: Scope, root: Path) -> str:
    return load_environment(scope.environments[0], root=root).python


def _listing(name: str, scope: Scope, root: Path) -> list[str]:
    """Return the extras of a scope that list a package."""
    return [extra for extra in scope.extras if extra in listed(name, root=root)]


def _take_linked_from_torchs_index(scope: Scope, root: Path) -> list[str]:
    """Use the index of the environment's torch for packages that link torch, dependencies included; return their names."""
    names: list[str] = []
    for _ in range(_ROUNDS):
        misplaced_packages = [
            (environment, name) for environment in scope.environments for name in _misplaced(environment, root)
        ]
        if not (new := [pair for pair in misplaced_packages if pair[1] not in names]):
            break
        for environment, name in new:
            names.append(name)
            _take_from_torchs_index(name, environment, scope, root)
        try:
            lock(root, name=new[0][1], any_torch=True)
        except LockError as fault:
            raise _no_build(new[0][1], fault) from fault
    return names


def _misplaced(environment: str, root: Path) -> list[str]:
    declared = load_environment(environment, root=root)
    exempt = any_torch_build(read_text(root / PROJECT))
    return [each.name for each in misplaced(read_lock(root), declared.extras, exempt=exempt, python=declared.python)]


def _take_from_torchs_index(name: str, environment: str, scope: Scope, root: Path) -> None:
    """Use the index of torch for a package. The package is listed for this purpose, even if it is a dependency of another package."""
    if not _listing(name, scope, root):
        _list(Requirement(name=name), scope, root)
    installed = load_environment(environment, root=root).extras
    extras = [extra for extra in _listing(name, scope, root) if extra in installed]
    take_from_torchs_index(name, environment=environment, extras=extras, root=root)


def _no_build(name: str, fault: LockError) -> LockError:
    """Return the error for a package that links torch, if the index of torch cannot be reached or has no build of it."""
    exempt = f'if it works with every build of torch: [tool.reprise] any-torch-build = ["{name}"] in pyproject.toml'
    if _UNREACHABLE.search(fault.message):
        cause = fault.message.partition("cannot be locked: ")[2]
        wheel = f"{name.replace('-', '_')}-*+cpu-*.whl"
        return LockError(
            f"{name} links torch and must come from torch's own index, which cannot be reached: {cause}",
            hint=f"put {wheel} into a find-links folder, or change the index's address: docs/how-to/mirror.md; {exempt}",
        )
    return LockError(
        f"{name} links torch, but torch's own index has no build of it for this torch",
        hint=exempt,
    )


def _unlisted(name: str, extras_of_package: list[str], scope: Scope, root: Path) -> UsageError:
    if extras_of_package:
        message = f"{name} is in {', '.join(extras_of_package)}, which other environments install too"
        return UsageError(message, hint=f"reprise remove {name}, without --environment")
    extras = scope.extras if scope.only else None
    return UsageError(f"no extra of pyproject.toml lists {name}", hint=did_you_mean(name, listed_names(root, extras)))


def require_unused(name: str, *, root: Path) -> None:
    """Raise `UsageError` if a module in `trainer/` imports a module with the package's name."""
    pattern = re.compile(rf"^\s*(?:import|from) {re.escape(name.replace('-', '_'))}\b", re.MULTILINE)
    for path in sorted((root / "trainer").rglob("*.py")):
        if match := pattern.search(read_text(path)):
            line = read_text(path).count("\n", 0, match.end()) + 1
            message = f"{path.relative_to(root)}:{line} imports {name}; expected a package that no module imports"
            raise UsageError(message, hint="remove the import first")
