"""Makes `uv.lock` without a trace of where it was made, and proves it current, neutral and complete.

It knows how a lock's addresses are written and which of them may stand in the repository. It does not know how
versions are chosen: that is uv's. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pinned_uv

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "uv.lock"
PROJECT = ROOT / "pyproject.toml"

# Reserved names that never resolve: where a file comes from is the reader's setting, its hash is ours.
INDEX = "https://index.invalid/simple"
FILES = "https://files.invalid/"

# Everything that a lock says about places: the index of a package, the address or the path of a file.
REGISTRY = re.compile(r'(?P<word>registry|index) = "(?P<place>[^"]*)"')
FILE = re.compile(r'\b(?:url|path) = "(?P<place>[^"]*)"')


def torch_address() -> str:
    """The one index that the project names: PyTorch's own, for the build without CUDA."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))
    return str(project["tool"]["uv"]["index"][0]["url"])


def torch_wheels() -> list[Path]:
    """The wheels of that index which lie in a folder that pip's find-links names."""
    places = pinned_uv.environment().get("UV_FIND_LINKS", "").split(",")
    folders = [Path(place.removeprefix("file://")) for place in places if place]
    return sorted(wheel for folder in folders if folder.is_dir() for wheel in folder.glob("torch-*+cpu-*.whl"))


def neutral(text: str, *, torch: dict[str, str]) -> str:
    """The lock with reserved names for addresses; `torch` says what PyTorch's index was called and is called.

    A file keeps only its name: the rest of an address differs from mirror to mirror.
    """
    text = REGISTRY.sub(lambda found: f'{found["word"]} = "{torch.get(found["place"], INDEX)}"', text)
    blocks = text.split("\n[[package]]\n")
    return "\n[[package]]\n".join(_with_neutral_files(block, torch) for block in blocks)


def _with_neutral_files(block: str, torch: dict[str, str]) -> str:
    own = [address for address in torch.values() if f'\nsource = {{ registry = "{address}" }}' in block]
    base = f"{own[0]}/" if own else FILES

    def renamed(found: re.Match[str]) -> str:
        name = found["place"].rsplit("/", 1)[-1]
        return f'url = "{base}{name if "%" in name else quote(name)}"'

    return FILE.sub(renamed, block)


def simple_index(home: Path, wheels: list[Path]) -> str:
    """The address of a new local index, a folder, of torch alone: these wheels with their hashes."""
    page = home / "torch" / "index.html"
    page.parent.mkdir(parents=True)
    links = (
        f'<a href="{wheel.as_uri()}#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}">{wheel.name}</a>'
        for wheel in wheels
    )
    page.write_text(f"<!DOCTYPE html><html><body>{' '.join(links)}</body></html>", encoding="utf-8")
    return home.as_uri()


def make(options: list[str]) -> int:
    """A new `uv.lock`, made by uv in a copy of the project, then stripped of addresses. Exit code."""
    address, wheels = torch_address(), torch_wheels()
    with tempfile.TemporaryDirectory(prefix="reprise-lock-") as folder:
        copy = Path(folder).resolve()
        place = simple_index(copy / "index", wheels) if wheels else address
        project = PROJECT.read_text(encoding="utf-8").replace(address, place)
        (copy / PROJECT.name).write_text(project, encoding="utf-8")
        if LOCK.exists():
            shutil.copyfile(LOCK, copy / LOCK.name)
        if code := uv("lock", "--directory", str(copy), *options):
            return code
        made = (copy / LOCK.name).read_text(encoding="utf-8")
    text = neutral(made, torch={place: address, place.removeprefix("file://"): address, address: address})
    if problems := places(text, address) + hashes(text):
        return told(problems)
    LOCK.write_text(text, encoding="utf-8")
    return 0


def uv(*arguments: str, **variables: str) -> int:
    """Runs the pinned uv on the default index alone: other places tell neither hash nor time of each file."""
    environment = {**pinned_uv.environment(), "UV_INDEX": "", "UV_FIND_LINKS": "", **variables}
    try:
        program = pinned_uv.uv(*pinned_uv.pinned())
    except pinned_uv.NoUvError as problem:
        return told([str(problem)])
    # Named, so that uv does not look into .venv, which may be another user's.
    return subprocess.run([program, *arguments, "--python", sys.executable], env=environment, check=False).returncode


def places(text: str, address: str) -> list[str]:
    """A sentence for each address that is neither a reserved name nor on PyTorch's index."""
    return [
        f"uv.lock:{number}: found {place}, expected an address under {INDEX}, {FILES} or {address}"
        for number, line in enumerate(text.splitlines(), start=1)
        for place in re.findall(r'"([a-z+]+://[^"]*)"', line) + re.findall(r'path = "([^"]*)"', line)
        if not place.startswith((INDEX, FILES, address))
    ]


def hashes(text: str) -> list[str]:
    """A sentence for each file without a sha256, and each package that no wheel is known of."""
    problems = []
    for package in tomllib.loads(text)["package"]:
        name = f"{package['name']} {package['version']}"
        if "registry" in package["source"] and not package.get("wheels"):
            problems.append(f"uv.lock: {name}: found no wheel, expected one: nothing is built while installing")
        problems += [
            f"uv.lock: {name}: found no sha256 for {file.get('url', 'a file')}, expected one"
            for file in _files(package)
            if not re.fullmatch(r"sha256:[0-9a-f]{64}", file.get("hash", ""))
        ]
    return problems


def _files(package: dict[str, Any]) -> list[dict[str, str]]:
    return [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]


def check() -> int:
    """Says whether the committed lock is current, neutral and complete. Asks no network. Exit code."""
    try:
        text = LOCK.read_text(encoding="utf-8")
        problems = places(text, torch_address()) + hashes(text)
        packages = tomllib.loads(text)["package"]
    except (OSError, tomllib.TOMLDecodeError, KeyError) as problem:
        return told([f"uv.lock: cannot be read: {problem}"])
    if problems:
        return told(problems)
    if not current():
        return told(["uv.lock is not what pyproject.toml asks for"])
    count = sum(len(_files(package)) for package in packages)
    print(f"uv.lock: current, neutral, complete: {len(packages)} packages, {count} files")
    return 0


def current() -> bool:
    """Whether uv, offline, would leave the lock as it is. In a copy: beside .venv, maybe another user's, it would look in."""
    with tempfile.TemporaryDirectory(prefix="reprise-lock-") as copy:
        for file in (PROJECT, LOCK):
            shutil.copyfile(file, Path(copy) / file.name)
        asked = ("lock", "--check", "--offline", "--quiet", "--directory", copy)
        return uv(*asked, UV_DEFAULT_INDEX=INDEX, UV_FIND_LINKS="") == 0


def told(problems: list[str]) -> int:
    """Each problem on a line, then what to do. Exit code 1."""
    print(*problems, "lock: run scripts/lock and commit uv.lock", sep="\n", file=sys.stderr)
    return 1


def main() -> int:
    """The verbs of scripts/lock, and `torch-index` for scripts/venv."""
    parser = argparse.ArgumentParser(prog="scripts/lock", description="Make uv.lock, or prove it.")
    parser.add_argument("--check", action="store_true", help="prove it current, neutral, complete; offline")
    parser.add_argument("--upgrade", action="store_true", help="move every package to its newest version")
    parser.add_argument("--upgrade-package", metavar="P", action="append", default=[], help="move one package")
    parser.add_argument("--torch-index", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.torch_index:
        print("" if torch_wheels() else torch_address())
        return 0
    if given.check:
        return check()
    moved = ["--upgrade"] if given.upgrade else []
    return make(moved + [f"--upgrade-package={name}" for name in given.upgrade_package])


if __name__ == "__main__":
    sys.exit(main())
