"""`reprise doctor`: checks this machine, or whether a run can be reproduced here, and shows how to fix each problem.

Runs on the host only. Checking a run fetches neither its image nor its datasets, and does not run its code. A run that is only in the store
is pulled, and a container of this checkout's image examines the cache.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.disk_errors import disk_fault
from trainer.base.errors import (
    DiskFullError,
    IrreproducibleError,
    MachineError,
    StoreError,
    StoreUnreachableError,
    UsageError,
)
from trainer.base.suggestions import counted
from trainer.cli.arguments import Arguments
from trainer.cli.checkout import DOTENV, ROOT, block, ca_bundle, engine, own_store_line
from trainer.cli.configuration import STORE_HELP, adopt_dotenv, store_address, store_at
from trainer.cli.find_run import RUN_HELP, find_run
from trainer.cli.messages import spelled
from trainer.cli.output import one_line, print_json, print_result
from trainer.cli.runner.container import ContainerRunner
from trainer.comparison.examine_run import examine_run
from trainer.environments import doctor, setup, store_setup
from trainer.environments.doctor import Diagnosis, Severity, exit_code
from trainer.environments.dotenv import conflicting_names, read_block, user_values
from trainer.environments.package_indexes import read_indexes
from trainer.runs.hardware import gpu_nodes
from trainer.settings.variables import require_known_lines
from trainer.stores.contract import object_key
from trainer.stores.probe import Probe, Probed, is_trusted
from trainer.stores.unchecked import unchecked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trainer.environments.doctor import Diagnosis
    from trainer.environments.engine import Engine, EngineFacts
    from trainer.stores.contract import Store

_ABSENT_KEY: Final = object_key(f"sha256:{'0' * 64}")
_FREE_BYTES: Final = 256 << 20
"""Free bytes on the file system of `runs/` below which a run is likely to fail."""
_DRIVER: Final = Path("/proc/driver/nvidia/version")


def main(argv: list[str]) -> int:
    """Print every finding; return the exit code of the first fault, or 0 without a fault."""
    parser = Arguments(
        "reprise doctor",
        "Check this machine, or whether a run can be reproduced on it. `reprise doctor store` tests a store. Exit codes: 0 no fault; else "
        "that of the first fault, or with RUN 84; docs/reference/exit-codes.md.",
    )
    parser.add_argument("run", nargs="?", metavar="RUN", help=f"{RUN_HELP} (default: check the machine)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    args = parser.parse_args(argv)
    if args.run:
        return doctor_run(args.run, as_json=args.json)
    findings = print_findings(_check_machine(), quiet=args.json)
    if args.json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    return doctor.exit_code(findings)


def _check_machine() -> Iterator[Diagnosis]:
    docker = engine()
    facts: list[EngineFacts] = []

    def check_engine() -> Diagnosis:
        facts.append(docker.facts())
        return doctor.engine(facts[0])

    yield doctor.run_check("engine", check_engine)
    yield doctor.run_check("plugins", lambda: doctor.plugins({name: _version(name) for name in ("buildx", "compose")}))
    yield doctor.run_check("network", _network)
    if not facts:
        return
    yield doctor.run_check(
        "gpu", lambda: doctor.gpus(len(gpu_nodes()), driver=_driver(), cuda=_locked_cuda(), facts=facts[0])
    )
    environment = setup.environment_name(store_setup.Choice(), read_block(DOTENV).values, nvidia=facts[0].nvidia)
    folder = facts[0].root if facts[0].root.is_dir() else ROOT
    yield doctor.run_check("disk", lambda: doctor.disk(folder, shutil.disk_usage(folder).free, environment=environment))
    yield doctor.run_check("setup", lambda: _setup(docker))
    yield doctor.run_check("runs", check_runs)
    yield doctor.run_check("store", lambda: _store(docker))


def _setup(docker: Engine) -> Diagnosis:
    require_known_lines(user_values(DOTENV))
    block_before = read_block(DOTENV)
    current = block(docker, store_setup.Choice(store=own_store_line()), block_before.values)
    return doctor.dotenv(block_before.values, current, edited=block_before.edited, shadows=conflicting_names(DOTENV))


def check_runs() -> Diagnosis:
    """Check that this user can write REPRISE_RUNS if it is set, that containers can write `runs/`, and that its disk has room."""
    if (configured := os.environ.get("REPRISE_RUNS")) and not (
        Path(configured).is_dir() and os.access(configured, os.W_OK)
    ):
        message = f"REPRISE_RUNS is {configured}, which is not a folder in which uid {os.getuid()} can write"
        return doctor.fault(
            "runs", MachineError(message, hint=f"mkdir -p {shlex.quote(configured)}, or unset REPRISE_RUNS")
        )
    user = setup.owner(os.getuid(), os.getgid())
    runs = ROOT / "runs"
    status = runs.stat() if runs.is_dir() else None
    if status is None or (status.st_uid != user.uid and not status.st_mode & 0o002):
        message = f"containers run as uid {user.uid}, which cannot write {runs}"
        return doctor.fault("runs", MachineError(message, hint="run scripts/setup as its owner, or chown it"))
    filesystem = os.statvfs(runs)
    if filesystem.f_flag & os.ST_RDONLY:
        raise disk_fault(OSError(errno.EROFS, ""), runs)
    if filesystem.f_bavail * filesystem.f_frsize < _FREE_BYTES:
        free = f"{filesystem.f_bavail * filesystem.f_frsize / 1e6:.0f} MB free"
        message = f"{free} at {runs}; a run writes its source, checkpoints and weights there"
        return doctor.fault("runs", DiskFullError(message, hint="free space there"))
    return doctor.well("runs", f"{runs} is writable for containers (uid {user.uid}, gid {user.gid})")


def _store(docker: Engine) -> Diagnosis:
    adopt_dotenv()
    address = store_address()
    if address is None:
        return doctor.note("store", "no store is configured", "scripts/setup")
    values = read_block(DOTENV).values
    if values.get("COMPOSE_PROFILES") == "store" and not docker.serves(values["COMPOSE_PROJECT_NAME"], "store"):
        store_setup.check_port(int(values["REPRISE_STORE_PORT"]))
        return doctor.note(
            "store",
            f"the local store {address} at http://127.0.0.1:{values['REPRISE_STORE_PORT']} is stopped; training starts it",
            "docker compose up -d store",
        )
    try:
        store = store_at(address)
        store.size(_ABSENT_KEY)
    except StoreUnreachableError as problem:
        return doctor.note(
            "store", f"{problem.message}: training works without it", problem.hint or "docker compose up -d store"
        )
    except StoreError as problem:
        return doctor.fault("store", problem)
    return doctor.well("store", f"{store.label} responds")


def _network() -> Diagnosis:
    """Check with uv that the configured package index lists the package `rich`; install nothing."""
    indexes = read_indexes(os.environ, home=Path.home())
    configuration = f"CA bundle {ca_bundle() or 'none'}" + (
        f"; {counted(len(indexes.folders), 'folder')} of wheels" if indexes.folders else ""
    )
    options = ["--dry-run", "--quiet", "--no-deps", "--target", "/nonexistent", "--refresh-package", "rich"]
    result = subprocess.run(
        [ROOT / "scripts" / "machine" / "uv", "pip", "install", *options, "rich"],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        reason = result.stderr.strip().splitlines()[-1:] or ["no reason given"]
        return doctor.note(
            "network",
            f"no package index responds ({reason[0].strip()}); {configuration}",
            "use a mirror or a folder of wheels: docs/how-to/mirror.md",
        )
    return doctor.well("network", f"the package index responds; {configuration}")


def _version(plugin: str) -> str | None:
    if shutil.which("docker") is None:
        return None
    result = subprocess.run(["docker", plugin, "version"], capture_output=True, text=True, check=False)
    number = re.search(r"\d+\.\d+\.\d+", result.stdout)
    return number[0] if result.returncode == 0 and number else None


def _driver() -> str | None:
    match = re.search(r"Kernel Module\D*(\d+\.\d[\d.]*)", _DRIVER.read_text()) if _DRIVER.exists() else None
    return match[1] if match else None


def _locked_cuda() -> str | None:
    match = re.search(
        r'^name = "nvidia-cuda-runtime[^"]*"\nversion = "(\d+\.\d+)', (ROOT / "uv.lock").read_text(), re.MULTILINE
    )
    return match[1] if match else None


_MARKS = {Severity.WELL: "ok", Severity.NOTE: "note", Severity.FAULT: "FAULT"}


def doctor_run(word: str, *, as_json: bool) -> int:
    """Print each requirement of a rerun and whether it is met; return 0 if nothing is missing."""
    adopt_dotenv()
    run_on_disk = find_run(word)
    run = run_on_disk.record.run
    findings = print_findings(
        examine_run(run_on_disk.record, run_on_disk.folder, machine=ContainerRunner().machine()), quiet=as_json
    )
    missing = [finding for finding in findings if finding.state is Severity.FAULT]
    document = {"run": run, "reproducible": not missing, "findings": [asdict(each) for each in findings]}
    success = spelled(f"run {run} can be reproduced: reprise reproduce {run}")
    print_result(document, success if not missing else f"run {run} cannot be reproduced here", as_json=as_json)
    return IrreproducibleError.code if exit_code(findings) else 0


def print_findings(findings: Iterable[Diagnosis], *, quiet: bool) -> list[Diagnosis]:
    """Print each finding with its remedy when it arrives, unless `quiet`; return all findings."""
    printed = []
    for finding in findings:
        printed.append(finding)
        if not quiet:
            print("\n".join(lines(finding)), flush=True)
    return printed


def lines(finding: Diagnosis) -> list[str]:
    """Return the lines of a finding and its remedy; its text may come from another user's record."""
    line = f"{_MARKS[finding.state]:5} {finding.about:9} {one_line(finding.found)}"
    return [line, *([f"{'':16}-> {spelled(finding.remedy)}"] if finding.remedy else [])]


def probe_store(argv: list[str]) -> int:
    """Probe the store, print the results, remove the objects; return 0 if the store provides everything that Reprise needs."""
    parser = Arguments(
        "reprise doctor store",
        "Test with real objects below probes/ that a store provides what Reprise needs. "
        "The test writes objects of about 34 MB, and removes them if the credentials allow it. Exit codes: 0 the store provides it, 50 it "
        "does not; docs/reference/exit-codes.md.",
    )
    parser.add_argument("address", metavar="ADDRESS", nargs="?", help=STORE_HELP)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    args = parser.parse_args(argv)
    address = args.address or store_address()
    if not address:
        raise UsageError(
            "no store is named", hint="pass its ADDRESS, or set REPRISE_STORE (scripts/setup writes it into .env)"
        )
    store = store_at(address)
    probe = Probe(store=store, again=store_at(address), raw=unchecked(store))
    results: list[Probed] = []
    try:
        for result in probe.all():
            results.append(result)
            if not args.json:
                _show(result)
    finally:
        remaining, reason = probe.tidy()
        if remaining:
            print(
                f"{counted(remaining, 'object')} could not be removed below {probe.place} in {store.label}: {reason}",
                file=sys.stderr,
            )
    return _print_verdict(store, results, remaining=remaining, as_json=args.json)


def _show(each: Probed) -> None:
    mark = "ok" if each.holds else "FAULT" if each.needed else "note"
    print(f"{mark:5} {each.about:9} {each.found}\n{'':16}-> {each.consequence}", flush=True)


def _print_verdict(store: Store, probed: list[Probed], *, remaining: int, as_json: bool) -> int:
    trusted = is_trusted(probed)
    probes = [asdict(each) for each in probed]
    failed = ", ".join(each.about for each in probed if each.needed and not each.holds)
    line = "provides everything that Reprise needs" if trusted else f"is not safe for datasets and runs: {failed}"
    document = {"store": store.address, "trusted": trusted, "remaining": remaining, "probes": probes}
    print_result(document, f"{store.label} {line}", as_json=as_json)
    return 0 if trusted else StoreError.code
