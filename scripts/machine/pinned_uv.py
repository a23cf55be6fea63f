"""Runs the uv that `uv.lock` pins, with the indexes that pip is configured to use.

It fetches uv by hash if PATH does not have that version, and translates the settings of pip to those of uv.
Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".reprise"

# pip's name -> uv's variable, and the separator uv wants between several values.
SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_OFFLINE", ""),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", ""),
    "client-cert": ("SSL_CLIENT_CERT", ""),
    "timeout": ("UV_HTTP_TIMEOUT", ""),
}


class NoUvError(Exception):
    """The pinned uv can neither be found nor fetched; the message has the reason and a fix."""


def require_no_colon() -> None:
    """Raise `NoUvError` if the path has a colon: Python cannot create an environment there."""
    if os.pathsep in str(ROOT):
        message = f"the path of this checkout has a colon, which separates paths in PYTHONPATH: {ROOT}"
        raise NoUvError(f"{message}; move the checkout to a path without a colon")


def pinned() -> tuple[str, list[str]]:
    """Return the version of uv in the lock, and the hashes of its wheels. Raise `NoUvError` if the lock does not have them."""
    try:
        lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
        package = next(entry for entry in lock["package"] if entry["name"] == "uv")
    except (OSError, ValueError, KeyError, StopIteration) as problem:
        raise NoUvError(f"uv.lock does not name a version of uv ({problem}): restore it with git") from problem
    return package["version"], [wheel["hash"] for wheel in package["wheels"]]


def uv(version: str, hashes: list[str]) -> Path:
    """Return a uv of exactly this version: from PATH, from an earlier call, or fetched now. Raise `NoUvError` if there is no such uv."""
    require_no_colon()
    for found in (shutil.which("uv"), own(version)):
        if found and is_version(found, version):
            return Path(found)
    return fetch_uv(version, hashes)


def own(version: str) -> Path:
    """Return the path of the fetched uv."""
    return HOME / f"uv-{version}" / "bin" / "uv"


def is_version(program: str | Path, version: str) -> bool:
    """Return whether a program exists and reports this version of uv."""
    return os.access(program, os.X_OK) and output_of(program, "--version").split()[1:2] == [version]


def output_of(*command: str | Path) -> str:
    """Return the output of a command; empty if the command fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def fetch_uv(version: str, hashes: list[str]) -> Path:
    """Create an environment that contains only uv, and return the path of uv; the environment gets its final name when it is complete."""
    home = HOME / f"uv-{version}"
    partial = HOME / f"uv-{version}.{os.getpid()}"
    print(f"uv: fetching uv {version} into {home.relative_to(ROOT)}", file=sys.stderr)
    try:
        create_environment(partial, f"uv=={version} " + " ".join(f"--hash={digest}" for digest in hashes))
        if not is_version(own(version), version):  # another process may have been faster
            shutil.rmtree(home, ignore_errors=True)
            partial.rename(home)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return own(version)


def create_environment(home: Path, requirement: str) -> None:
    """Create an environment at `home` and install the requirement with pip, by hash. Raise `NoUvError` if that fails."""
    if importlib.util.find_spec("ensurepip") is None:
        raise NoUvError(
            f"{sys.executable} cannot create an environment without the module venv: "
            "install it (Debian 12: apt-get install python3-venv)"
        )
    venv = subprocess.run([sys.executable, "-m", "venv", home], capture_output=True, text=True, check=False)
    if venv.returncode:
        raise NoUvError(f"{sys.executable} could not create an environment in {home}: {last_line(venv)}")
    wanted = home / "requirements.txt"
    wanted.write_text(requirement + "\n", encoding="utf-8")
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install = [*pip, "--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", str(wanted)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoUvError(
            f"pip could not install {requirement.split(maxsplit=1)[0]}: {last_line(done)}; see docs/how-to/mirror.md"
        )


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last line of output of a failed command."""
    return (done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}").splitlines()[-1]


def configured(listing: str) -> dict[str, str]:
    """Return the settings from `pip config list`; later sources win: section global, section install, the environment."""
    found: dict[str, str] = {}
    for section in ("global.", "install.", ":env:."):
        for line in listing.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(section):
                found[name.removeprefix(section)] = str(ast.literal_eval(value))
    return found


def uv_settings(settings: dict[str, str]) -> dict[str, str]:
    """Return the settings of pip under their names in uv. Every file is verified by hash, so any index may serve it."""
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    for name, (variable, separator) in SETTINGS.items():
        if name in settings:
            variables[variable] = separator.join(settings[name].split()) if separator else settings[name]
    return variables


def environment() -> dict[str, str]:
    """Return the environment of this process with the settings of pip added; existing uv variables take precedence."""
    version, _ = pinned()
    python = own(version).with_name("python")
    listing = output_of(python if os.access(python, os.X_OK) else sys.executable, "-m", "pip", "config", "list")
    return {**uv_settings(configured(listing)), **os.environ}


def main() -> NoReturn:
    """Replace this process with uv."""
    try:
        program = uv(*pinned())
    except NoUvError as problem:
        sys.exit(f"uv: {problem}")
    os.execve(program, [str(program), *sys.argv[1:]], environment())  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
