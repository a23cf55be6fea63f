"""The project of an experiment from outside the checkout: its root, and how its modules are imported.

A project is a git repository, or else a folder with a pyproject.toml. Its files become part of the run's source, in the folder `FOLDER`, so
that the experiment's imports work as they do in the project.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.errors import ExperimentError

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = "experiment/project"
"""The folder of a project in the source of a run."""
_MARKS: Final = (".git", "pyproject.toml")


def find_project(file: Path) -> Path | None:
    """Return the root of the git repository of `file`, else the nearest folder with a pyproject.toml; `None` if neither exists.

    The home folder and the root of the file system are not projects, even if they are repositories.
    """
    homes = {Path(os.path.realpath(Path("~").expanduser())), Path(file.anchor)}
    above = [folder for folder in file.parents if folder not in homes]
    return next((folder for mark in _MARKS for folder in above if (folder / mark).exists()), None)


def frozen_project(file: Path) -> Path | None:
    """Return the project folder that contains `file` in a run's source; `None` if the file is not part of a project."""
    parts = tuple(FOLDER.split("/"))
    return next((folder for folder in file.parents if folder.parts[-len(parts) :] == parts), None)


def import_roots(file: Path, project: Path) -> list[Path]:
    """Return the folders in which absolute imports of `file` begin.

    They are the folder above the file's package, the folder of the nearest pyproject.toml, the project, and the `src` folders of the latter
    two.
    """
    above = [folder for folder in file.parents if folder.is_relative_to(project)]
    own = next((folder for folder in above if (folder / "pyproject.toml").is_file()), project)
    folders = [_package_root(file, project), own, own / "src", project, project / "src"]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def module_name(file: Path, project: Path) -> str | None:
    """Return the dotted name of `file` if it is in a package; `None` if it is imported by its path."""
    names = file.relative_to(_package_root(file, project)).with_suffix("").parts
    return ".".join(names) if len(names) > 1 and all(name.isidentifier() for name in names) else None


def _package_root(file: Path, project: Path) -> Path:
    folder = file.parent
    while folder != project and (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def require_own_modules(file: Path, project: Path, *, checkout: Path) -> None:
    """Raise `ExperimentError` if an import in `file`, or in a project module that it imports, would find a module of the checkout instead.

    The package of `file` itself is also checked. Only import statements are found, not dynamic imports.
    """
    roots = import_roots(file, project)
    reached = {file: None}
    waiting = [file]
    own = (module_name(file, project) or "").partition(".")[0]
    if own and _hides(own, roots, checkout):
        raise _collision(own, place=file.relative_to(project).as_posix(), verb="is in")
    while waiting:
        path = waiting.pop()
        for name, folder, line in _imports(path):
            top = name.partition(".")[0]
            if folder is None and _hides(top, roots, checkout):
                raise _collision(top, place=f"{path.relative_to(project).as_posix()}:{line}", verb="imports")
            new = [each for root in ([folder] if folder else roots) for each in _files(root, name)]
            waiting += [each for each in new if each not in reached]
            reached |= dict.fromkeys(new)


def _collision(name: str, *, place: str, verb: str) -> ExperimentError:
    message = f"{place} {verb} {name}, which is a package of the checkout too: the checkout's package would be imported"
    return ExperimentError(
        message, hint=f"rename {name} in the experiment's project, or train from a checkout that has no {name}"
    )


def _hides(name: str, roots: list[Path], checkout: Path) -> bool:
    """Return whether Python finds the checkout's module `name` before the project's. Folders without `__init__.py` are found last."""
    root = next((root for root in roots if _is_module(root / name)), None)
    return root is not None and (
        _is_regular(checkout / name) or (not _is_regular(root / name) and _is_module(checkout / name))
    )


def _is_regular(path: Path) -> bool:
    return path.with_name(f"{path.name}.py").is_file() or (path / "__init__.py").is_file()


def _is_module(path: Path) -> bool:
    return _is_regular(path) or any(path.rglob("*.py"))


def _imports(path: Path) -> Iterator[tuple[str, Path | None, int]]:
    """Yield the dotted name of each import, the folder in which it begins if it is relative, and its line number."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return  # the fault is reported when the file is imported
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((each.name, None, node.lineno) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = path.parents[node.level - 1] if 0 < node.level <= len(path.parents) else None
            base = f"{node.module}." if node.module else ""
            yield from ((f"{base}{each.name}", folder, node.lineno) for each in node.names)


def _files(root: Path, name: str) -> Iterator[Path]:
    """Yield the files of the module with this dotted name and of its packages. The last part may be a name in a module."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        path = root.joinpath(*parts[:depth])
        yield from (each for each in (path.with_name(f"{path.name}.py"), path / "__init__.py") if each.is_file())
