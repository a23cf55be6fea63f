"""Ask for trust in code that is not the user's own: show the code's origin, its differences from the checkout, and a question.

Every command that runs a recorded source calls `require_trust` first. Code is the user's own if the attempt is in the register
(`trainer.runs.register`), or if every file is identical in the checkout. Any other code runs only with the user's consent, and can access
neither the network, nor keys, nor files outside its run folder, unless the user grants more by name.
"""

from __future__ import annotations

import difflib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.base.digest import digest_of_bytes, is_digest
from trainer.base.errors import SourceError, UntrustedCodeError, UsageError
from trainer.base.suggestions import counted, did_you_mean
from trainer.cli.configuration import CHECKOUT, runs_folder, users
from trainer.cli.output import one_line
from trainer.runs.image_file import IMAGE_FILE
from trainer.runs.register import RegisterEntry, has_entry, is_own, own_attempts, register
from trainer.runs.resume import require_source
from trainer.runs.run import ATTEMPTS
from trainer.source.capture import ARCHIVE, capture
from trainer.source.copy import load_bundle

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from trainer.runs.record import Record
    from trainer.source.capture import SourceBundle, SourceFile
    from trainer.sweeps.document import Sweep

GRANTS: Final = {
    "network": "the network",
    "store": "the store, with its keys, and the network",
    "machine": "everything that this user can access: it runs as a process of this user, without an isolated container",
}
_MOST_DIFF_LINES: Final = 400
"""Maximum lines of a diff; the whole source is in the run's archive."""
ISOLATION: Final = "no network, no keys, nothing writable but its own run folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustDecision:
    """The user's decision about code that is not the user's own."""

    trusted: bool = False
    granted: frozenset[str] = frozenset()
    command: str
    """The command to which hints add options, such as `reprise reproduce RUN`."""


def grants(text: str | None) -> frozenset[str]:
    """Parse the comma-separated names after --grant. Raise `UsageError` for an unknown name."""
    services = [word.strip() for word in (text or "").split(",") if word.strip()]
    for word in services:
        if word not in GRANTS:
            raise UsageError(f"--grant {word}: expected {', '.join(GRANTS)}", hint=did_you_mean(word, GRANTS))
    return frozenset(services)


def trust_options(parser: ArgumentParser) -> None:
    """Add the options --trust and --grant, which answer the question about trust in advance."""
    parser.add_argument("--trust", action="store_true", help="run code from another machine or user without asking")
    parser.add_argument(
        "--grant",
        metavar="NAMES",
        help=f"additional access for code from another machine or user, comma-separated (default: its run folder): {', '.join(GRANTS)}",
    )


def own_attempts_of(run: Path) -> list[int]:
    """Return the attempts of a run that this user's processes made on this machine."""
    return own_attempts(run, runs=runs_folder(), users=users())


def require_trust(
    record: Record, folder: Path, word: TrustDecision, *, is_isolated: bool, in_its_image: bool = True
) -> bool:
    """Return whether a record's code is the user's own; if it is not, show the record and ask the user.

    `is_isolated` states that the code can access only its run folder, `in_its_image` that it runs in the recorded image. Raise
    `UntrustedCodeError` if the user does not consent, or if the code is neither isolated nor granted the machine; `DigestMismatchError` or
    `SourceError` if the archive does not hold the recorded source.
    """
    if is_own(folder / ATTEMPTS / str(record.attempt), runs=runs_folder(), users=users()):
        return True
    bundle, checkout = load_bundle(folder / ARCHIVE, digest=record.ingredients.source), checkout_files()
    has_image = not in_its_image or not is_isolated or has_own_image(record, os.environ | _dotenv())
    if has_image and not other_files(bundle, checkout):
        return True
    if not is_isolated and "machine" not in word.granted:
        message = f"run {record.run} is from another user or machine; its code would reach this machine's network, credentials and files"
        raise UntrustedCodeError(
            message,
            hint=f"type on the host: {host_command(word.command)} --trust; or grant that access here: --trust --grant machine",
        )
    reaches = isolation(word.granted) if is_isolated else GRANTS["machine"]
    _require_consent(record, [*page(record, bundle, checkout=checkout)], word, reaches=reaches)
    return False


def require_own_sweep(sweep: Sweep, folder: Path) -> None:
    """Raise `UntrustedCodeError` unless this user began the sweep on this machine, `DigestMismatchError` if its source changed.

    The user is not asked, because the sweep's points have the network and the keys, and its document determines their image.
    """
    if not is_own_sweep(sweep):
        message = f"sweep {sweep.id} is from another user or machine, or of an older version: its points would have network and keys"
        raise UntrustedCodeError(message, hint="start your own sweep: repeat the command with --again")
    require_source(folder, sweep.source)


def is_own_sweep(sweep: Sweep) -> bool:
    """Return whether this user began a sweep on this machine, and it has not changed since it was frozen."""
    return has_entry(f"{sweep.id}-sweep", _entry(sweep), runs=runs_folder(), users=users())


def register_sweep(sweep: Sweep) -> None:
    """Register a sweep as this user's own. Raise `MachineError` if the register cannot be written."""
    register(f"{sweep.id}-sweep", _entry(sweep), runs=runs_folder())


def _entry(sweep: Sweep) -> RegisterEntry:
    return RegisterEntry(token=digest_of_bytes(sweep.id.encode()), identity=sweep.frozen, source=sweep.source)


def require_checkpoint_trust(record: Record, word: TrustDecision) -> None:
    """Ask whether a run may be resumed from another user's or machine's checkpoints. Raise `UntrustedCodeError` without consent."""
    lines = [
        f"run {record.run} is from another user or machine, host {one_line(record.circumstances.host.name)}",
        "its code is identical to this checkout's; its checkpoints hold values that this user did not compute on this machine",
    ]
    _require_consent(record, lines, word, reaches="from its last checkpoint")


def isolation(granted: frozenset[str]) -> str:
    """Describe briefly what code in an isolated container can access."""
    grants_text = [GRANTS[name] for name in GRANTS if name in granted]
    return f"{ISOLATION}{'; granted: ' if grants_text else ''}{', '.join(grants_text)}"


def _require_consent(record: Record, lines: list[str], word: TrustDecision, *, reaches: str) -> None:
    print("\n".join(lines), file=sys.stderr, flush=True)
    if word.trusted:
        return
    hint = f"read it (tar -xzf {runs_folder() / record.run / ARCHIVE} -C DIR), then: {word.command} --trust"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UntrustedCodeError(f"run {record.run} is from another user or machine, and it is not trusted", hint=hint)
    print(f"Run it ({reaches})? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UntrustedCodeError(f"run {record.run} is from another user or machine; it was not run", hint=hint)


def host_command(command: str) -> str:
    """Return a command as it is typed on the host."""
    return command.replace("reprise ", "scripts/reprise ", 1)


def checkout_files() -> dict[str, str]:
    """Return the digest of each file that a run of this checkout would capture; empty if it cannot be captured."""
    try:
        return {file.path: file.sha256 for file in capture(CHECKOUT, runs=runs_folder()).files}
    except SourceError:
        return {}


def other_files(bundle: SourceBundle, checkout: Mapping[str, str]) -> list[SourceFile]:
    """Return the files of a source that `checkout` does not contain with the same digest; files that git ignores are not in `checkout`."""
    return [file for file in bundle.files if checkout.get(file.path) != file.sha256]


def has_own_image(record: Record, values: Mapping[str, str]) -> bool:
    """Return whether a record's image is the image of this checkout, by every digest in the record."""
    image = record.circumstances.image
    pairs = (
        (image.manifest, values.get("REPRISE_IMAGE", "").rpartition("@")[2]),
        (image.config, values.get("REPRISE_IMAGE_CONFIG", "")),
    )
    named = [(theirs, ours) for theirs, ours in pairs if theirs is not None and is_digest(ours)]
    return bool(named) and all(theirs == ours for theirs, ours in named)


def _dotenv() -> dict[str, str]:
    if IMAGE_FILE.exists():
        return {}
    from trainer.cli.checkout import compose_values

    return compose_values()


def page(record: Record, bundle: SourceBundle, *, checkout: Mapping[str, str]) -> Iterator[str]:
    """Yield the description of a source, file by file if a file differs from the checkout."""
    circumstances = record.circumstances
    yield f"run {record.run} is from another user or machine, host {one_line(circumstances.host.name)}"
    size = sum(len(file.data) for file in bundle.files)
    yield f"its source: {counted(len(bundle.files), 'file')}, {size / 1e6:.1f} MB, commit {one_line(circumstances.source.commit)}"
    if circumstances.image.reference:
        yield f"its image: {one_line(circumstances.image.reference)}"
    differing = other_files(bundle, checkout)
    if not differing:
        yield "every file is identical to this checkout's"
        return
    yield f"different from this checkout: {counted(len(differing), 'file')}"
    yield from (f"  {one_line(file.path)}  {counted(len(file.data), 'byte')}" for file in differing)
    lines = [line for file in differing for line in _difference(file, checkout)]
    yield from lines[:_MOST_DIFF_LINES]
    if len(lines) > _MOST_DIFF_LINES:
        yield f"... and {counted(len(lines) - _MOST_DIFF_LINES, 'more line')}"


def _difference(file: SourceFile, checkout: Mapping[str, str]) -> Iterator[str]:
    path = CHECKOUT / file.path
    try:
        recorded_lines = file.data.decode().splitlines()
        checkout_lines = path.read_text(encoding="utf-8").splitlines() if file.path in checkout else []
    except (UnicodeDecodeError, OSError):
        return
    for line in difflib.unified_diff(
        checkout_lines, recorded_lines, "here/" + file.path, "theirs/" + file.path, lineterm=""
    ):
        yield one_line(line)
