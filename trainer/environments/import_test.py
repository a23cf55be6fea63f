"""Import the packages of an environment in its new image.

A package that was built for another torch, or that needs a missing system library, fails here and not in the first run. An image's build
runs this file as a script (`python import_test.py LOCK ENVIRONMENT EXTRA...`), so it imports only the standard library. The imported
packages can write only to the temporary folder, so that the image does not depend on what they write.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

UNPRIVILEGED: Final = 65534
"""The user that imports if root builds: it can write only what every user of the image can write."""
ASIDE: Final = frozenset({"benchmarks", "docs", "example", "examples", "scripts", "setup", "test", "tests"})
"""Modules that some packages install by mistake and that are not imported."""
_LIBRARY: Final = re.compile(r"([\w.+-]+\.so[\w.]*): cannot open shared object file")


def requested_distributions(lock: str, extras: Iterable[str]) -> Iterator[Distribution]:
    """Yield the installed distributions that the extras of a lock list, and all others that link torch.

    Torch is the first, followed by the packages that link it: a fault is then reported for the faulty package and not for a package that
    imports it, as Lightning imports torchvision.
    """
    blocks = tomllib.loads(lock).get("package", [])
    project: dict[str, Any] = next((block for block in blocks if {"editable", "virtual"} & block["source"].keys()), {})
    names = {entry["name"] for extra in extras for entry in project.get("optional-dependencies", {}).get(extra, [])}
    linked = {normalized(package.name) for package in distributions() if links_torch(package)}
    for name in sorted(names | linked, key=lambda name: (name != "torch", name not in linked, name)):
        try:
            yield distribution(name)
        except PackageNotFoundError:
            continue


def links_torch(package: Distribution) -> bool:
    """Return whether a distribution depends on torch and contains machine code."""
    is_dependent = any(re.match(r"torch\b(?!-)", line) and "extra ==" not in line for line in package.requires or [])
    return is_dependent and "Root-Is-Purelib: false" in (package.read_text("WHEEL") or "")


def modules(package: Distribution) -> list[str]:
    """Return the module with the distribution's name; without such a module, all public modules of the distribution."""
    names = set()
    for file in package.files or []:
        top = file.parts[0].split(".")[0]
        is_module = len(file.parts) == 1 and file.suffix in {".py", ".so"}
        if (
            top.isidentifier()
            and top not in ASIDE
            and not top.startswith("_")
            and (is_module or file.parts[1:] == ("__init__.py",))
        ):
            names.add(top)
    same_named = [top for top in names if normalized(top) == normalized(package.name)]
    return same_named or sorted(names)


def fault(package: Distribution) -> str | None:
    """Return why a distribution cannot be imported, in one line; None if it can."""
    for name in modules(package):
        try:
            importlib.import_module(name)
        except BaseException as problem:  # noqa: BLE001 - any exception of a module is a fault
            last_line = (str(problem).strip() or type(problem).__name__).splitlines()[-1]
            return f"`import {name}`: {type(problem).__name__}: {last_line}"
    return None


def hint(package: Distribution, message: str, environment: str) -> str:
    """Return the hint for a fault."""
    if library := _LIBRARY.search(message):
        return f"name the Debian package that has {library[1]} in `packages` of environments/{environment}.toml"
    if package.name != "torch" and (links_torch(package) or normalized(package.name).startswith("torch")):
        return f"it was built for another torch than {distribution('torch').version}: docs/how-to/environments.md, Add a dependency"
    return f"try another version in pyproject.toml, or remove it from the extras of environments/{environment}.toml"


def normalized(name: str) -> str:
    """Return the normalized name of a distribution (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def import_in_child(requested: list[Distribution], environment: str) -> int:
    """Import the distributions in a child process, which a faulty library may end; return the exit code."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os._exit(_import_all(requested, environment, writer))
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as started:
        last_package = started.read().split("\n")[-2:-1]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        _print_line(f"import test: {last_package[0]} ended Python by signal {-code}")
    return abs(code)


def _print_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _import_all(requested: list[Distribution], environment: str, writer: int) -> int:
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(UNPRIVILEGED)
        os.setuid(UNPRIVILEGED)
    for each in requested:
        os.write(writer, f"{each.name} {each.version}\n".encode())
        if message := fault(each):
            _print_line(f"import test: {each.name} {each.version}: {message}")
            _print_line(f"  -> {hint(each, message, environment)}")
            return 1
    return 0


def main() -> int:
    """Test the packages of the extras on the command line; return the exit code."""
    lock, environment, *extras = sys.argv[1:]
    requested = list(requested_distributions(Path(lock).read_text(encoding="utf-8"), extras))
    if code := import_in_child(requested, environment):
        return code
    _print_line(f"import test: {len(requested)} package{'' if len(requested) == 1 else 's'} can be imported")
    return 0


if __name__ == "__main__":
    # The folder of this file is an import root only because the file runs as a script.
    sys.path = [root for root in sys.path if root != str(Path(__file__).parent.absolute())]
    sys.exit(main())
