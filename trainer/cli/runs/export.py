"""`reprise runs export`: write a run's record in the format of another tool, with `--as ro-crate` also the run's files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.base.atomic_file import write_whole
from trainer.base.digest import canonical, digest_of_bytes
from trainer.base.errors import RunNotFoundError, UsageError
from trainer.cli.configuration import (
    STORE_HELP,
    configured_store,
    is_file,
    is_folder,
    runs_folder,
    shown_path,
    typed_folder,
)
from trainer.cli.find_run import RUN_HELP, find_run_id
from trainer.cli.output import print_json
from trainer.cli.progress import transfer_progress
from trainer.runs.exports.crate_file import ZIP, write_crate
from trainer.runs.exports.cyclonedx import bill_of_materials
from trainer.runs.exports.exported_run import run_in_folder, run_in_store, run_of_record
from trainer.runs.exports.slsa import provenance
from trainer.runs.list import local_ids, remote_ids
from trainer.runs.names import full_run_id, resolve_run
from trainer.runs.pull import pull_run
from trainer.runs.run import ATTEMPTS

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable

    from trainer.cli.arguments import Verb
    from trainer.runs.exports.exported_run import ExportedRun
    from trainer.stores.contract import Store

_SLSA: Final = "slsa"
_CRATE: Final = "ro-crate"
_DOCUMENTS: Final[dict[str, Callable[[ExportedRun], dict[str, Any]]]] = {
    _SLSA: provenance,
    "cyclonedx": bill_of_materials,
}


def describe(export: Verb) -> None:
    """Declare the options of `export`."""
    export.add_argument("run", metavar="RUN", help=f"{RUN_HELP}; or the folder of a model package")
    export.add_argument(
        "--as",
        dest="form",
        required=True,
        choices=[*_DOCUMENTS, _CRATE],
        help="slsa: provenance as an in-toto statement; cyclonedx: machine learning bill of materials; "
        "ro-crate: Process Run Crate with the run's files",
    )
    export.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="PATH",
        help="file to write (default: stdout); for ro-crate (required), a new folder or a .zip file",
    )
    export.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="with --as slsa: sign with the Ed25519 private key in this PEM file, as a DSSE envelope (default: unsigned)",
    )
    export.add_argument("--store", metavar="ADDRESS", help=STORE_HELP)


def export(args: Namespace) -> int:
    """Write the document or the crate.

    Raise `RunNotFoundError` for an unknown run, `RunError` and `DigestMismatchError` for a run that cannot be exported, `UsageError` for
    options that do not belong together.
    """
    _require_options(args)
    if args.form == _CRATE:
        return _export_crate(args)
    run = _found(args.run, args.store)
    text = canonical(_DOCUMENTS[args.form](run)) + b"\n"
    if args.key is not None:
        from trainer.comparison.certificate import sign

        text = sign(text, key=args.key)
    if args.output is None:
        print(text.decode(), end="")
        return 0
    write_whole(args.output, text)
    _report(args, run, digest=digest_of_bytes(text))
    return 0


def _require_options(args: Namespace) -> None:
    """Raise `UsageError` for options that do not belong together, and `CertificateError` for a key that cannot be read."""
    if args.key is not None and args.form != _SLSA:
        raise UsageError(f"--key signs provenance; --as is {args.form}", hint="remove --key, or write --as slsa")
    if args.key is not None:
        from trainer.comparison.certificate import signing_key

        signing_key(args.key)
    if args.form != _CRATE:
        return
    if args.output is None:
        raise UsageError(
            "--output is missing: a crate is a folder or a zip file", hint="--output crate, or --output crate.zip"
        )
    if is_folder(args.output) or (is_file(args.output) and args.output.suffix.lower() != ZIP):
        raise UsageError(
            f"{args.output} exists; expected the name of a new folder or of a zip file", hint="--output crate.zip"
        )


def _export_crate(args: Namespace) -> int:
    folder = _folder(args.run)
    if folder is None and _package_record(args.run) is not None:
        message = f"{args.run} is a model package, which has the record of its run, but not the run's files"
        raise UsageError(message, hint="name the run, or write --as slsa")
    folder = folder or _pull(args.run, args.store)
    run = run_in_folder(folder)
    write_crate(run, folder, out=args.output.absolute())
    _report(args, run, digest=None)
    return 0


def _report(args: Namespace, run: ExportedRun, *, digest: str | None) -> None:
    if args.json:
        about = {"sha256": digest} if digest else {}
        print_json({"run": run.record.run, "as": args.form, "path": str(args.output), **about})
    else:
        print(shown_path(args.output))


def _found(word: str, address: str | None) -> ExportedRun:
    """Return the run that a word names: on this machine, in a model package, or in the store, of which only the seals are read."""
    if folder := _folder(word):
        return run_in_folder(folder)
    if text := _package_record(word):
        return run_of_record(text, where=f"the record of {word}")
    store, run = _in_store(word, address)
    return run_in_store(run, store)


def _folder(word: str) -> Path | None:
    """Return the folder of a run on this machine; `None` if the run is not on this machine.

    Raise `UsageError` for the start of several IDs.
    """
    if word and is_folder(Path(word) / ATTEMPTS):
        return typed_folder(Path(word))
    with suppress(RunNotFoundError):
        return runs_folder() / find_run_id(word, local_ids(runs_folder()))
    return None


def _package_record(word: str) -> bytes | None:
    """Return the record of a model package on this machine; `None` if `word` names no package."""
    from trainer.cli.find_package import known_package  # late: every `reprise runs` imports this module
    from trainer.models.package import RECORD, open_package

    path = known_package(word)
    return None if path is None else open_package(path).files[RECORD]


def _in_store(word: str, address: str | None) -> tuple[Store, str]:
    """Return the store, and the ID of the run that `word` names in the store.

    Raise `RunNotFoundError` if the store has no such run, `StoreError` if the store cannot be read.
    """
    if address is None:
        find_run_id(word, local_ids(runs_folder()))  # raises the error that names similar runs
    store = configured_store(address)
    return store, full_run_id(word) or resolve_run(word, remote_ids(store))


def _pull(word: str, address: str | None) -> Path:
    store, run = _in_store(word, address)
    pull_run(run, store, runs=runs_folder(), progress=transfer_progress("pulling"))
    return runs_folder() / run
