"""`reprise add` and `reprise remove`: change the dependencies of environments in a copy of the checkout, build it, and apply the change."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import ImageBuildError, PinError, UsageError
from trainer.cli.arguments import Arguments
from trainer.cli.checkout import DOTENV, ROOT, engine, ensure_image, refresh_block
from trainer.cli.output import print_progress, print_result
from trainer.environments import setup, store_setup
from trainer.environments.build import find_built_image
from trainer.environments.declaration import environment_names, inputs_of, load_environment, load_pin
from trainer.environments.dependencies import (
    add_system_packages,
    declares_packages,
    parse_requirement,
    remove_system_packages,
)
from trainer.environments.dependency_lock import Scope, add_packages, remove_packages, require_unused, scope_of
from trainer.environments.dotenv import read_block
from trainer.environments.lock_file import moved_packages
from trainer.environments.trial import applied, changeable_files, restore_interrupted, trial_checkout

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trainer.environments.build import BuiltImage
    from trainer.environments.engine import Engine

_UNCHANGED: Final = "pyproject.toml, environments/ and uv.lock are unchanged"
_HINT: Final = (
    "if an import lacks a library (libGL.so.1): reprise add --system PACKAGE (libgl1), then repeat the command; "
    "or add another version: reprise add 'PACKAGE==VERSION'"
)
_SYSTEM_HINT: Final = "check the name in the Debian release of the environment's base image: apt-cache search PACKAGE"


def add(argv: list[str]) -> int:
    """Add packages to environments."""
    args = _parser("add", "Add packages to environments: edit the declarations, lock, build, import.").parse_args(argv)
    if args.system:
        return _run(args, partial(_change_system, args, add_system_packages))
    requirements = [parse_requirement(each) for each in args.packages]
    return _run(args, lambda scope, trial: add_packages(requirements, scope, root=trial))


def remove(argv: list[str]) -> int:
    """Remove packages from environments."""
    args = _parser("remove", "Remove packages from environments: edit the declarations, lock, build.").parse_args(argv)
    if args.system:
        return _run(args, partial(_change_system, args, remove_system_packages))
    names = [parse_requirement(each).name for each in args.packages]
    for name in names:
        require_unused(name, root=ROOT)
    return _run(args, lambda scope, trial: remove_packages(names, scope, root=trial))


def _parser(command: str, description: str) -> Arguments:
    parser = Arguments(f"reprise {command}", description)
    parser.add_argument(
        "packages",
        metavar="PACKAGE",
        nargs="+",
        help="a Python package, such as einops or 'einops>=0.8'; with --system a Debian package, such as libgl1",
    )
    parser.add_argument("--system", action="store_true", help="PACKAGE is a Debian package")
    parser.add_argument(
        "--environment",
        metavar="NAME",
        help="change only this environment (default: every environment that lists torch)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _run(args: Namespace, edit: Callable[[Scope, Path], None]) -> int:
    """Try a change in a copy of the checkout, apply it, and print the changed versions and image sizes."""
    if args.environment:
        load_environment(args.environment, root=ROOT)
    with closing(engine()) as docker:
        for name in restore_interrupted(ROOT):
            print_progress(f"{name}: restored; an earlier command was killed while it changed this file")
        scope, before = scope_of(args.environment, root=ROOT), changeable_files(ROOT)
        name = _environment_to_build(scope, docker)
        with trial_checkout(ROOT) as trial:
            edit(scope, trial)
            changed = _changed_environments(trial)
            _require_no_pin(changed)
            old, built = _images(name, docker=docker, trial=trial, hint=_SYSTEM_HINT if args.system else _HINT)
            after = changeable_files(trial)
        changes = {path: text for path, text in after.items() if before[path] != text}
        with applied(changes, before, root=ROOT):
            refresh_block(docker)
    document: dict[str, Any] = {
        "files": [*changes],
        "packages": [
            {"name": name, "before": old or None, "after": new or None}
            for name, old, new in moved_packages(before["uv.lock"], after["uv.lock"])
        ],
        "environments": changed,
        "environment": name,
        "image": built.reference,
        "size": built.size,
        "size_before": old.size if old else None,
    }
    print_result(document, _lines(document), as_json=args.json)
    return 0


def _environment_to_build(scope: Scope, docker: Engine) -> str:
    """Return the environment whose image is built: the checkout's environment if it is in scope, else the first in scope.

    Raise `UsageError` if the scope is empty.
    """
    trains_in = setup.environment_name(store_setup.Choice(), read_block(DOTENV).values, nvidia=docker.facts().nvidia)
    name = trains_in if trains_in in scope.environments else next(iter(scope.environments), None)
    if name is None:
        raise UsageError("no environment lists torch, so --environment is required", hint="--environment NAME")
    return name


def _require_no_pin(names: Sequence[str]) -> None:
    """Raise `PinError` if one of the environments that change is pinned."""
    for name in names:
        if pin := load_pin(name, root=ROOT):
            raise PinError(
                f"environment {name!r} is pinned to {pin.reference}, so its packages cannot change",
                hint=f"reprise image unpin {name}, repeat the command, then: reprise image pin {name} REPOSITORY --push",
            )


def _images(name: str, *, docker: Engine, trial: Path, hint: str) -> tuple[BuiltImage | None, BuiltImage]:
    """Return the checkout's image, or None if it does not exist, and the image of `trial`, which is built if necessary.

    The build imports the packages. Raise `ImageBuildError` with `hint` if a build step fails.
    """
    old = find_built_image(name, stage="environment", engine=docker, root=ROOT)
    try:
        return old, ensure_image(name, stage="environment", docker=docker, root=trial)
    except ImageBuildError as fault:
        if "see the output above" not in fault.message:
            raise
        raise ImageBuildError(
            f"the image of environment {name!r} cannot be built with this change: see the output above; {_UNCHANGED}",
            hint=hint,
        ) from fault


def _changed_environments(trial: Path) -> list[str]:
    """Return the environments whose images differ between the checkout and the trial."""
    return [name for name in environment_names(ROOT) if _build_id(name, ROOT) != _build_id(name, trial)]


def _build_id(name: str, root: Path) -> str:
    return inputs_of(load_environment(name, root=root), base="", root=root).build_id


def _change_system(args: Namespace, change: Callable[..., None], scope: Scope, trial: Path) -> None:
    """Change Debian packages in the environments that declare them; environments that inherit the packages change as well."""
    names = [name for name in scope.environments if args.environment or declares_packages(name, root=trial)]
    for name in names:
        change(args.packages, environment=name, root=trial)


def _lines(document: dict[str, Any]) -> list[str]:
    rows = [
        ("added", row["name"], row["after"])
        if row["before"] is None
        else ("removed", row["name"], row["before"])
        if row["after"] is None
        else ("changed", row["name"], f"{row['before']} to {row['after']}")
        for row in document["packages"]
    ]
    before = document["size_before"]
    cost = f", {(document['size'] - before) / 1e6:+,.1f} MB" if before is not None else ""
    return [
        *(f"{verb:8} {name} {version}" for verb, name, version in rows),
        f"image    {document['image']}, {document['size'] / 1e6:,.0f} MB{cost}",
        f"changed  images of {', '.join(document['environments']) or 'no environment'}",
        f"commit   {' '.join(document['files'])}",
    ]
