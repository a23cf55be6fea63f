"""`reprise doctor`: what was found on this machine, and what to do about each thing missing. Host only."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.disk_errors import disk_fault
from trainer.base.errors import DiskFullError, MachineError, StoreError, StoreUnreachableError
from trainer.base.suggestions import counted
from trainer.cli.arguments import Arguments
from trainer.cli.checkout import DOTENV, ROOT, block, ca_bundle, engine, own_store_line
from trainer.cli.doctor.run import MARKS, doctor_run
from trainer.cli.places import adopt_dotenv, store_address, store_at
from trainer.cli.spelling import spelled
from trainer.environments import doctor, setup
from trainer.environments.dotenv import conflicting_names, read_block
from trainer.environments.package_indexes import read_indexes
from trainer.runs.hardware import gpu_nodes
from trainer.stores.contract import object_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.environments.doctor import Finding
    from trainer.environments.engine import Engine, EngineFacts

_NOTHING: Final = object_key(f"sha256:{'0' * 64}")
_ROOM: Final = 256 << 20
"""Bytes free where runs are kept, below which a run is likely to fail."""
_DRIVER: Final = Path("/proc/driver/nvidia/version")


def main(argv: list[str]) -> int:
    """Look at everything, print all of it, and exit with the first fault's code."""
    parser = Arguments("reprise doctor", "Check this machine and print how to fix what is missing.")
    parser.add_argument("run", nargs="?", help="check whether this run can be reproduced here, instead of the machine")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(argv)
    if asked.run:
        return doctor_run(asked.run, as_json=asked.json)
    findings = []
    for finding in _look():
        findings.append(finding)
        if not asked.json:
            print(
                f"{MARKS[finding.state]:5} {finding.about:9} {finding.found}"
                + (f"\n{'':16}-> {spelled(finding.remedy)}" if finding.remedy else "")
            )
            sys.stdout.flush()
    if asked.json:
        print(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    return doctor.exit_code(findings)


def _look() -> Iterator[Finding]:
    docker = engine()
    found: list[EngineFacts] = []

    def ask() -> Finding:
        found.append(docker.facts())
        return doctor.engine(found[0])

    yield doctor.run_check("engine", ask)
    yield doctor.run_check("plugins", lambda: doctor.plugins({name: _version(name) for name in ("buildx", "compose")}))
    yield doctor.run_check("network", _network)
    if not found:
        return
    yield doctor.run_check(
        "gpu", lambda: doctor.gpus(len(gpu_nodes()), driver=_driver(), cuda=_locked_cuda(), facts=found[0])
    )
    environment = setup.environment_name(setup.Choice(), _told(), nvidia=found[0].nvidia)
    place = found[0].root if found[0].root.is_dir() else ROOT
    yield doctor.run_check("disk", lambda: doctor.disk(place, shutil.disk_usage(place).free, environment=environment))
    yield doctor.run_check("setup", lambda: _setup(docker))
    yield doctor.run_check("runs", look_at_runs)
    yield doctor.run_check("store", lambda: _store(docker))


def _setup(docker: Engine) -> Finding:
    before = read_block(DOTENV)
    now = block(docker, setup.Choice(store=own_store_line()), before.values)
    return doctor.dotenv(before.values, now, edited=before.edited, shadows=conflicting_names(DOTENV))


def look_at_runs() -> Finding:
    """Whether containers can write runs, and have room for one; of a folder that REPRISE_RUNS names, whether this user can write it."""
    if (named := os.environ.get("REPRISE_RUNS")) and not (Path(named).is_dir() and os.access(named, os.W_OK)):
        said = f"{named}, which REPRISE_RUNS names, is no folder that uid {os.getuid()} can write"
        return doctor.fault("runs", MachineError(said, hint=f"mkdir -p {named}, or unset REPRISE_RUNS"))
    who = setup.owner(os.getuid(), os.getgid())
    runs = ROOT / "runs"
    status = runs.stat() if runs.is_dir() else None
    if status is None or (status.st_uid != who.uid and not status.st_mode & 0o002):
        said = f"{runs} cannot be written by containers, which run as uid {who.uid}"
        return doctor.fault("runs", MachineError(said, hint="scripts/setup as its owner, or chown it"))
    about = os.statvfs(runs)
    if about.f_flag & os.ST_RDONLY:
        raise disk_fault(OSError(errno.EROFS, ""), runs)
    if about.f_bavail * about.f_frsize < _ROOM:
        said = f"{about.f_bavail * about.f_frsize / 1e6:.0f} MB free at {runs}; a run writes its source, checkpoints and weights there"
        return doctor.fault("runs", DiskFullError(said, hint="free space there"))
    return doctor.well("runs", f"{runs}, written as uid {who.uid}, gid {who.gid}")


def _store(docker: Engine) -> Finding:
    adopt_dotenv()
    address = store_address()
    if address is None:
        return doctor.note("store", "no store is configured", "scripts/setup")
    values = _told()
    if values.get("COMPOSE_PROFILES") == "store" and not docker.serves(values["COMPOSE_PROJECT_NAME"], "store"):
        setup.check_port(int(values["REPRISE_STORE_PORT"]))
        return doctor.note(
            "store",
            f"{address} at http://127.0.0.1:{values['REPRISE_STORE_PORT']}: the local store is stopped; training starts it",
            "docker compose up -d store",
        )
    try:
        store = store_at(address)
        store.size(_NOTHING)
    except StoreUnreachableError as problem:
        return doctor.note(
            "store", f"{problem.message}: training works without it", problem.hint or "docker compose up -d store"
        )
    except StoreError as problem:
        return doctor.fault("store", problem)
    return doctor.well("store", f"{store.label} answers")


def _network() -> Finding:
    """Whether the configured index serves a file of the lock, asked through uv; nothing is installed."""
    indexes = read_indexes(os.environ, home=Path.home())
    told = f"CA bundle {ca_bundle() or 'none'}" + (
        f"; {counted(len(indexes.folders), 'folder')} of wheels" if indexes.folders else ""
    )
    words = [
        "pip",
        "install",
        "--dry-run",
        "--quiet",
        "--no-deps",
        "--target",
        "/nonexistent",
        "--refresh-package",
        "rich",
        "rich",
    ]
    done = subprocess.run([ROOT / "scripts" / "uv", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        return doctor.note(
            "network",
            f"no package index answers ({reason[0].strip()}); {told}",
            "docs/how-to/mirror.md: a mirror or a folder of wheels",
        )
    return doctor.well("network", f"the package index answers; {told}")


def _told() -> dict[str, str]:
    return dict(read_block(DOTENV).values)


def _version(plugin: str) -> str | None:
    if shutil.which("docker") is None:
        return None
    done = subprocess.run(["docker", plugin, "version"], capture_output=True, text=True, check=False)
    number = re.search(r"\d+\.\d+\.\d+", done.stdout)
    return number[0] if done.returncode == 0 and number else None


def _driver() -> str | None:
    """The NVIDIA driver's release, as its kernel module says it."""
    found = re.search(r"Kernel Module\D*(\d+\.\d[\d.]*)", _DRIVER.read_text()) if _DRIVER.exists() else None
    return found[1] if found else None


def _locked_cuda() -> str | None:
    """The CUDA release that the lock's wheels carry."""
    found = re.search(
        r'^name = "nvidia-cuda-runtime[^"]*"\nversion = "(\d+\.\d+)', (ROOT / "uv.lock").read_text(), re.MULTILINE
    )
    return found[1] if found else None
