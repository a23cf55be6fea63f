"""Creates `uv.lock` without local addresses, and checks that it is current, neutral, complete and uses one torch.

It reads and writes the addresses in a lock; uv chooses the versions. Standard library only: it runs before anything is installed.
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
sys.path.insert(0, str(ROOT))

from trainer.environments.lock_file import PYTHON, any_torch_build, extras_with, misplaced, packages  # noqa: E402 - the line above adds the repository to the path

LOCK = ROOT / "uv.lock"
PROJECT = ROOT / "pyproject.toml"

# Reserved names that never resolve: the lock has the hash of a file, and the user's settings determine its index.
INDEX = "https://index.invalid/simple"
FILES = "https://files.invalid/"

# The locations in a lock: the index of a package, the address or the path of a file.
REGISTRY = re.compile(r'(?P<word>registry|index) = "(?P<place>[^"]*)"')
FILE = re.compile(r'\b(?:url|path) = "(?P<place>[^"]*)"')


def torch_index() -> tuple[str, str]:
    """Return the name and address of the only index in the project: PyTorch's index for builds without CUDA."""
    index = project()["tool"]["uv"]["index"][0]
    return index["name"], index["url"]


def project() -> dict[str, Any]:
    """Return the parsed pyproject.toml."""
    return tomllib.loads(PROJECT.read_text(encoding="utf-8"))


def torch_wheels() -> list[Path]:
    """Return the wheels of the PyTorch index in the find-links folders of pip."""
    places = pinned_uv.environment().get("UV_FIND_LINKS", "").split(",")
    folders = [Path(place.removeprefix("file://")) for place in places if place]
    return sorted(wheel for folder in folders if folder.is_dir() for wheel in folder.glob("*+cpu-*.whl"))


def missing_wheels(requirements: str) -> str:
    """Return the exported requirements that need the PyTorch index: its packages whose wheel is in no local folder."""
    lock = tomllib.loads(LOCK.read_text(encoding="utf-8"))["package"]
    there = {(block["name"], block["version"]) for block in lock if block["source"].get("registry") == torch_index()[1]}
    stanzas = re.findall(r"^(\S+)==(\S+)((?:.*\\\n)*.*\n?)", requirements, re.MULTILINE)
    here = {hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in torch_wheels()}
    return "".join(
        f"{name}=={version}{rest}"
        for name, version, rest in stanzas
        if (name, version) in there and not any(digest in rest for digest in here)
    )


def neutral(text: str, *, torch: dict[str, str]) -> str:
    """Return the lock with reserved names for addresses; `torch` maps old addresses of the PyTorch index to new ones.

    A file keeps only its name: the rest of an address differs between mirrors.
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
    """Create a local index of `wheels`, with their hashes, in the folder `home`, and return its address."""
    pages: dict[str, list[str]] = {}
    for wheel in wheels:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        pages.setdefault(distribution(wheel), []).append(f'<a href="{wheel.as_uri()}#sha256={digest}">{wheel.name}</a>')
    for name, links in pages.items():
        (home / name).mkdir(parents=True)
        page = f"<!DOCTYPE html><html><body>{' '.join(links)}</body></html>"
        (home / name / "index.html").write_text(page, encoding="utf-8")
    return home.as_uri()


def distribution(wheel: Path) -> str:
    """Return the normalized name of the package in a wheel."""
    return re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()


def from_folder(text: str, names: set[str], place: str) -> str:
    """Return pyproject.toml with the local index at `place` as the source of the packages `names`, instead of the PyTorch index."""
    index, _ = torch_index()
    for name in names:
        line = re.compile(rf"^{re.escape(name)} = \[[^\]]*\]", re.MULTILINE)
        text = line.sub(lambda found: found[0].replace(f'"{index}"', f'"{index}-folder"'), text)
    return f'{text}\n[[tool.uv.index]]\nname = "{index}-folder"\nurl = "{place}"\nexplicit = true\n'


def packages_without_upload_time() -> list[str]:
    """Return an error for each package to which `exclude-newer` applies, although its index, PyTorch's, has no upload times."""
    uv_says, (index, _) = project()["tool"]["uv"], torch_index()
    free = uv_says.get("exclude-newer-package", {})
    asked = [
        name
        for name, entries in uv_says.get("sources", {}).items()
        if any(entry.get("index") == index for entry in (entries if isinstance(entries, list) else [entries]))
    ]
    line = ", ".join(f"{name} = false" for name in sorted({*asked, *free}))
    return [
        f"pyproject.toml: exclude-newer applies to {name}, but index {index} has no upload times, so uv finds no version\n"
        f"  -> in [tool.uv]: exclude-newer-package = {{ {line} }}"
        for name in asked
        if "exclude-newer" in uv_says and name not in free
    ]


def make(options: list[str], *, any_torch: bool = False) -> int:
    """Create `uv.lock` with uv in a copy of the project, remove the addresses, and return the exit code.

    With `any_torch` a package that links torch may come from a different index than torch: `reprise add` then corrects its source.
    """
    (_, address), wheels = torch_index(), torch_wheels()
    if problems := packages_without_upload_time():
        return report(problems, hint="edit pyproject.toml, then run scripts/lock again")
    with tempfile.TemporaryDirectory(prefix="reprise-lock-") as folder:
        copy = Path(folder).resolve()
        place = simple_index(copy / "index", wheels) if wheels else address
        text = PROJECT.read_text(encoding="utf-8")
        names = {distribution(wheel) for wheel in wheels}
        (copy / PROJECT.name).write_text(from_folder(text, names, place) if wheels else text, encoding="utf-8")
        if LOCK.exists():
            shutil.copyfile(LOCK, copy / LOCK.name)
        if code := uv("lock", "--directory", str(copy), *options):
            return code
        made = (copy / LOCK.name).read_text(encoding="utf-8")
    text = neutral(made, torch={place: address, place.removeprefix("file://"): address, address: address})
    if problems := places(text, address) + hashes(text):
        return report(problems)
    if not any_torch and (problems := other_torch(text)):
        return report(problems, hint="uv.lock is unchanged: edit pyproject.toml, then run scripts/lock again")
    try:
        LOCK.write_text(text, encoding="utf-8")
    except OSError as problem:
        return report([f"{LOCK} cannot be written: {problem.strerror}"], hint="run scripts/lock in your own clone")
    return 0


def uv(*arguments: str, **variables: str) -> int:
    """Run the pinned uv with the default index only, and return its exit code: other indexes may lack hashes or upload times."""
    environment = {**pinned_uv.environment(), "UV_INDEX": "", "UV_FIND_LINKS": "", **variables}
    try:
        program = pinned_uv.uv(*pinned_uv.pinned())
    except pinned_uv.NoUvError as problem:
        return report([str(problem)])
    # Given explicitly, so that uv does not use .venv, which may belong to another user.
    return subprocess.run([program, *arguments, "--python", sys.executable], env=environment, check=False).returncode


def places(text: str, address: str) -> list[str]:
    """Return a sentence for each address that is neither a reserved name nor on the PyTorch index."""
    return [
        f"uv.lock:{number}: found {place}, expected an address under {INDEX}, {FILES} or {address}"
        for number, line in enumerate(text.splitlines(), start=1)
        for place in re.findall(r'"([a-z+]+://[^"]*)"', line) + re.findall(r'path = "([^"]*)"', line)
        if not place.startswith((INDEX, FILES, address))
    ]


def hashes(text: str) -> list[str]:
    """Return a sentence for each file without a sha256, and each package without a wheel."""
    problems = []
    for package in tomllib.loads(text)["package"]:
        name = f"{package['name']} {package['version']}"
        if "registry" in package["source"] and not package.get("wheels"):
            problems.append(
                f"uv.lock: {name}: found no wheel; expected a wheel, because nothing is built while installing"
            )
        problems += [
            f"uv.lock: {name}: found no sha256 for {file.get('url', 'a file')}"
            for file in _files(package)
            if not re.fullmatch(r"sha256:[0-9a-f]{64}", file.get("hash", ""))
        ]
    return problems


def environments() -> dict[str, tuple[list[str], str]]:
    """Return the extras and the Python of each environment that the checkout declares."""
    files = [path for path in sorted((ROOT / "environments").glob("*.toml")) if not path.name.endswith(".pin.toml")]
    declared = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in files}
    return {
        name: (own.get("extras", []), {**declared.get(own.get("like", ""), {}), **own}.get("python", PYTHON))
        for name, own in declared.items()
    }


def other_torch(text: str) -> list[str]:
    """Return a sentence for each package that links torch and is locked from a different index than torch in its environment.

    `[tool.reprise] any-torch-build` of pyproject.toml lists the packages that work with every build of torch.
    """
    exempt = any_torch_build(PROJECT.read_text(encoding="utf-8"))
    problems = []
    for name, (extras, python) in environments().items():
        torch = packages(text, extras, python=python).get("torch")
        for one in misplaced(text, extras, exempt=exempt, python=python):
            message = f"uv.lock: environment {name}: found {one.name} {one.version} from {index_name(one.source)}"
            expected = (
                f"expected the build from {index_name(torch.source)}, as for torch {torch.version}" if torch else ""
            )
            problems.append(f"{message}, {expected}: both link libtorch\n  -> {source_line(text, one.name, extras)}")
    return problems


def index_name(address: str) -> str:
    """Return the name of an index for messages."""
    name, torch = torch_index()
    return f"index {name}" if address == torch else "the default index"


def source_line(text: str, name: str, extras: list[str]) -> str:
    """Return the edit of pyproject.toml that takes a package from the index of torch."""
    index, address = torch_index()
    torch = packages(text, extras)["torch"]
    if torch.source != address:
        return f'in [tool.uv.sources], limit the line of {name} to the extra that has torch\'s CPU build: extra = "cpu"'
    listed = [extra for extra in extras_with(text, name) if extra in extras]
    here = listed or [extra for extra in extras_with(text, "torch") if extra in extras]
    entries = ", ".join(f'{{ index = "{index}", extra = "{extra}" }}' for extra in here)
    line = f"in [tool.uv.sources], add: {name} = [{entries}]; in exclude-newer-package, add: {name} = false"
    return (
        line
        if listed
        else f"list {name} in extra {here[0]} too, because a source applies only to packages that are listed there; {line}"
    )


def _files(package: dict[str, Any]) -> list[dict[str, str]]:
    return [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]


def check() -> int:
    """Check offline that the committed lock is current, neutral, complete and uses one torch. Return the exit code."""
    try:
        text = LOCK.read_text(encoding="utf-8")
        problems = places(text, torch_index()[1]) + hashes(text)
        count = tomllib.loads(text)["package"]
    except (OSError, tomllib.TOMLDecodeError, KeyError) as problem:
        return report([f"uv.lock: cannot be read: {problem}"])
    if problems:
        return report(problems)
    if not current():
        return report(["uv.lock does not match pyproject.toml"])
    if problems := other_torch(text):
        return report(problems, hint="edit pyproject.toml, run scripts/lock, and commit both")
    files = sum(len(_files(package)) for package in count)
    print(f"uv.lock: current, neutral, complete: {len(count)} packages, {files} files")
    return 0


def current() -> bool:
    """Return whether uv, offline, considers a copy of the lock current: next to the lock, uv would read .venv, maybe another user's."""
    with tempfile.TemporaryDirectory(prefix="reprise-lock-") as copy:
        for file in (PROJECT, LOCK):
            shutil.copyfile(file, Path(copy) / file.name)
        asked = ("lock", "--check", "--offline", "--quiet", "--directory", copy)
        return uv(*asked, UV_DEFAULT_INDEX=INDEX, UV_FIND_LINKS="") == 0


def report(problems: list[str], hint: str = "run scripts/lock and commit uv.lock") -> int:
    """Print each problem on a line, then the hint. Return exit code 1."""
    print(*problems, f"lock: {hint}", sep="\n", file=sys.stderr)
    return 1


def main() -> int:
    """Run a command of scripts/lock, or a query of scripts/machine/venv or scripts/machine/wheelhouse."""
    parser = argparse.ArgumentParser(prog="scripts/lock", description="Write or check uv.lock.")
    parser.add_argument(
        "--check",
        action="store_true",
        help="check offline that uv.lock is current, contains no index addresses, is complete and has one torch build",
    )
    parser.add_argument(
        "--upgrade", action="store_true", help="upgrade every package to its newest version that is at least a week old"
    )
    parser.add_argument(
        "--upgrade-package", metavar="P", action="append", default=[], help="upgrade one package and its dependencies"
    )
    parser.add_argument("--any-torch", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--torch-index", metavar="REQUIREMENTS", help=argparse.SUPPRESS)
    parser.add_argument("--torch-wheels", metavar="REQUIREMENTS", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if file := given.torch_index or given.torch_wheels:
        wanted = missing_wheels(Path(file).read_text(encoding="utf-8"))
        print(torch_index()[1] if wanted and given.torch_index else wanted, end="")
        return 0
    if given.check:
        return check()
    moved = ["--upgrade"] if given.upgrade else []
    return make(moved + [f"--upgrade-package={name}" for name in given.upgrade_package], any_torch=given.any_torch)


if __name__ == "__main__":
    sys.exit(main())
