"""`reprise data import` and `update`: publish files from other servers as versions of a dataset."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from argparse import ArgumentTypeError
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.digest import is_digest
from trainer.base.errors import DatasetError, MachineError, UsageError
from trainer.base.suggestions import counted, did_you_mean, short
from trainer.cli.arguments import Verb
from trainer.cli.configuration import CHECKOUT
from trainer.cli.data.draft_options import add_draft_options
from trainer.cli.data.publish import publish_folder
from trainer.cli.data.publish_options import require_readers
from trainer.cli.data.publish_table import is_table_file
from trainer.cli.data.weights import is_weights_file
from trainer.cli.output import print_progress
from trainer.cli.progress import transfer_progress
from trainer.data.declaration import is_declared, load_dataset, require_name
from trainer.data.files import SourceFolder
from trainer.data.upstream.archive import is_archive, unpack
from trainer.data.upstream.listing import changes
from trainer.data.upstream.picture_arrays import IMAGE, write_arrays
from trainer.data.upstream.torchvision import CATALOG, SCHEME, NamedFiles, named_dataset
from trainer.data.upstream.transfer import download_files, list_source
from trainer.runs.image_file import IMAGE_FILE

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping

    from trainer.cli.data import DataContext
    from trainer.data.upstream.listing import Client, Upstream, UpstreamListing
    from trainer.data.upstream.picture_arrays import IdxFiles, RecordFiles
    from trainer.data.upstream.torchvision import NamedDataset

_PACKAGES: Final = {
    "https": ("fsspec", "aiohttp"),
    "http": ("fsspec", "aiohttp"),
    "gs": ("fsspec", "aiohttp", "gcsfs"),
    "az": ("fsspec", "aiohttp", "adlfs"),
    "sftp": ("fsspec", "aiohttp", "paramiko"),
    "hf": ("huggingface_hub",),
    "s3": (),
}
"""The schemes of a source's address, and the packages that each needs."""
_PICKLES: Final = {b"PK", b"\x80\x02"}
"""First bytes of the files that `torch.save` writes, in its current format and in its format before 2020."""
SOURCES: Final = (
    "https://..., s3://..., gs://..., az://..., sftp://..., hf://datasets/OWNER/NAME, hf://models/OWNER/NAME "
    "or torchvision:NAME"
)
_READERS: Final = ("array", "images", "column", "table", "lines", "text", "tokenizer", "sample", "keep_archive")
"""Options that have no effect for a named dataset, whose files become arrays."""


def add_import_options(parser: Verb) -> None:
    """Declare the options of `import`."""
    parser.set_defaults(verb=import_dataset)
    parser.add_argument("name", metavar="NAME", help="name in datasets/")
    parser.add_argument("address", metavar="SOURCE", help=f"address of the files: {SOURCES}")
    parser.add_argument("--sha256", metavar="DIGEST", type=_digest, help="expected digest of a source that is one file")
    parser.add_argument(
        "--as",
        dest="file",
        metavar="FILE",
        type=_file,
        help="file name for a download from an http or https address (default: the last part of the address)",
    )
    parser.add_argument("--keep-archive", action="store_true", help="publish a zip or tar archive without unpacking it")
    parser.add_argument(
        "--from",
        dest="mirror",
        metavar="ADDRESS",
        help="folder of a mirror that has the files of torchvision:NAME, such as https://mirror.example/mnist or s3://bucket/mnist; "
        "sizes and sha256 stay those that Reprise knows",
    )
    add_draft_options(parser)
    parser.usage = "%(prog)s [OPTIONS] NAME SOURCE"


def add_update_options(parser: Verb) -> None:
    """Declare the options of `update`."""
    parser.set_defaults(verb=update)
    parser.add_argument("name", metavar="NAME", help="imported dataset in datasets/")
    parser.add_argument("--apply", action="store_true", help="if the source changed, import it again as a new version")


def _digest(word: str) -> str:
    digest = f"sha256:{word.removeprefix('sha256:').lower()}"
    if not is_digest(digest):
        raise ArgumentTypeError(f"expected 64 hexadecimal digits, found {short(word)!r}")
    return digest


def _file(word: str) -> str:
    if not word or "/" in word or word in {".", ".."}:
        raise ArgumentTypeError(f"expected a file name without a folder, found {short(word)!r}")
    return word


def import_dataset(args: Namespace, context: DataContext, *, catalog: Mapping[str, NamedDataset] = CATALOG) -> int:
    """Download a source, and publish it as a version that records its origin."""
    require_name(args.name)
    _require_fitting_options(args)
    client = _client(args.address, file=args.file or "", mirror=args.mirror or "", catalog=catalog)
    listing = list_source(client)
    _require_one_file(args, listing)
    before = load_dataset(args.name, root=context.root) if is_declared(args.name, root=context.root) else None
    with _staging(args.name, listing) as folder:
        files = folder / "files"
        download_files(client, listing, files, sha256=args.sha256, progress=transfer_progress("importing"))
        upstream = listing.described(client.source)
        if not args.keep_archive and (archive := _only_file(files)) and is_archive(archive.name):
            files = folder / "unpacked"
            shutil.rmtree(files, ignore_errors=True)
            print_progress(f"{archive.name}: {counted(unpack(archive, files), 'file')} unpacked")
            upstream = upstream.model_copy(update={"is_unpacked": True})
        if isinstance(client, NamedFiles):
            is_known = before and before.upstream and before.upstream.source == client.source
            files = _arrays(client.dataset.pictures, files, args, is_new=not is_known)
        args.upstream = _earlier_if_same(upstream, before.upstream if before else None)
        args.folder = _published_path(files, has_hidden=args.include_hidden)
        args.source = args.source or client.source
        args.license = args.license or (None if before else listing.license or None)
        return publish_folder(args, context)


def _arrays(pictures: IdxFiles | RecordFiles, source: Path, args: Namespace, *, is_new: bool) -> Path:
    """Convert pictures; return the folder of the arrays. The first import adds their reader, splits and types to `args`."""
    folder = source.with_name("arrays")
    shutil.rmtree(folder, ignore_errors=True)
    splits = write_arrays(pictures, source, folder)
    print_progress(f"{args.address}: {counted(max(end for _, end in splits.values()), 'picture')} converted")
    if is_new:
        labels = {field: {"dtype": "int64", "classes": count} for field, count in pictures.classes.items()}
        args.twin = {IMAGE: {"dtype": "uint8", "shape": pictures.shape, "range": (0, 255)}, **labels}
        args.reader = {"kind": "arrays", "fields": {field: f"{field}.npy" for field in args.twin}}
        args.split = args.split or [f"{name}={first}:{end}" for name, (first, end) in splits.items()]
    return folder


def update(args: Namespace, context: DataContext, *, catalog: Mapping[str, NamedDataset] = CATALOG) -> int:
    """Report whether the source of an imported dataset changed; with `--apply`, import a changed source again."""
    dataset = load_dataset(args.name, root=context.root)
    upstream = dataset.upstream
    if upstream is None:
        raise DatasetError(f"{dataset.title} was not imported", hint="reprise data import NAME SOURCE")
    file = _renamed(upstream)
    listing = list_source(_client(upstream.source, file=file, catalog=catalog))
    lines = [] if listing.digest == upstream.listing else changes(upstream, listing)
    if args.apply and lines:
        _print_changes(dataset.title, upstream, listing, lines)
        return import_dataset(_import_arguments(args, upstream, file), context, catalog=catalog)
    if args.json:
        facts = {"dataset": dataset.title, "source": upstream.source, "is_changed": bool(lines), "changes": lines}
        print(json.dumps({**facts, "imported_revision": upstream.revision, "revision": listing.revision}))
    elif not lines:
        moved = f"; its revision is now {listing.revision}" if listing.revision != upstream.revision else ""
        print(f"{dataset.title}: {upstream.source} is unchanged since the import{moved}")
    else:
        _print_changes(dataset.title, upstream, listing, lines)
        print(f"reprise data update {args.name} --apply imports the source again as a new version")
    return 0


def _print_changes(title: str, upstream: Upstream, listing: UpstreamListing, lines: list[str]) -> None:
    revisions = f" ({upstream.revision[:12]} -> {listing.revision[:12]})" if listing.revision else ""
    print_progress(f"{title}: {upstream.source} changed{revisions}")
    for line in lines:
        print_progress(f"  {line}")


def _import_arguments(args: Namespace, upstream: Upstream, file: str) -> Namespace:
    """Return the arguments of the `import` command that imports the source again."""
    parser = Verb(prog="reprise data import")
    add_import_options(parser)
    words = [args.name, upstream.source, "--yes"]
    words += ["--as", file] if file else []
    is_kept = not upstream.is_unpacked and len(upstream.files) == 1 and is_archive(next(iter(upstream.files)))
    words += ["--keep-archive"] if is_kept else []
    parsed = parser.parse_args(words)
    parsed.json = args.json
    return parsed


def _renamed(upstream: Upstream) -> str:
    """Return the file name of an http or https source with one file, which `--as` may have set; empty for another source."""
    is_web = upstream.source.startswith(("http://", "https://"))
    return next(iter(upstream.files)) if is_web and len(upstream.files) == 1 else ""


def _earlier_if_same(upstream: Upstream, before: Upstream | None) -> Upstream:
    """Return `before` if it describes the same files of the same source, so that they are not published as a new version."""
    is_same = before and (before.source, before.listing, before.is_unpacked) == (
        upstream.source,
        upstream.listing,
        upstream.is_unpacked,
    )
    return before if before and is_same else upstream


def _require_one_file(args: Namespace, listing: UpstreamListing) -> None:
    if args.sha256 and len(listing.files) != 1:
        raise UsageError(
            f"--sha256 is the digest of one file; {args.address} has {len(listing.files):,} files",
            hint="remove --sha256",
        )


def _require_fitting_options(args: Namespace) -> None:
    if args.file and not args.address.startswith(("http://", "https://")):
        raise UsageError(f"--as has no effect: {args.address} names its files", hint="remove --as")
    is_named = args.address.startswith(SCHEME)
    if args.mirror and not is_named:
        raise UsageError(f"--from has no effect: {args.address} is the address of the files", hint="remove --from")
    if not is_named:
        return
    if option := next((name for name in _READERS if getattr(args, name)), None):
        option = option.replace("_", "-")
        raise UsageError(f"--{option} has no effect: {args.address} becomes arrays", hint=f"remove --{option}")
    require_readers(args)


def _client(source: str, *, catalog: Mapping[str, NamedDataset], file: str = "", mirror: str = "") -> Client:
    """Return the client for a source. Raise `UsageError` for an unknown form or name."""
    if source.startswith(SCHEME):
        return NamedFiles(source, named_dataset(source, catalog), mirror=mirror, client=_client_of_address)
    return _client_of_address(source, file=file)


def _client_of_address(address: str, *, file: str = "") -> Client:
    """Return the client for an address. Raise `UsageError` for an unknown form."""
    scheme, separator, _ = address.partition("://")
    if not separator or scheme not in _PACKAGES:
        hint = (
            did_you_mean(scheme, [*_PACKAGES])
            if separator
            else "reprise data publish NAME DIR publishes a folder on this machine"
        )
        raise UsageError(f"{short(address)!r}: expected {SOURCES}", hint=hint)
    _require_packages(scheme)
    if scheme == "hf":
        from trainer.data.upstream.hub import HubFiles

        return HubFiles(address)
    if scheme == "s3":
        from trainer.data.upstream.bucket import BucketFiles

        return BucketFiles(address)
    if scheme == "sftp":
        from trainer.data.upstream.sftp import SftpFiles

        return SftpFiles(address)
    from trainer.data.upstream.remote import RemoteFiles

    return RemoteFiles(address, name=file)


def _require_packages(scheme: str) -> None:
    """If this Python lacks a package, restart this command in the environment for imports, which is created on first use.

    Raise `MachineError` in a container, or if the environment cannot be created.
    """
    missing = [name for name in _PACKAGES[scheme] if find_spec(name) is None]
    if not missing:
        return
    if IMAGE_FILE.exists():
        raise MachineError(
            f"{scheme}:// needs {missing[0]}, which this image does not have",
            hint="on the host: scripts/reprise data import",
        )
    home = CHECKOUT / ".reprise" / "import"
    if (
        Path(sys.prefix) == home
        or subprocess.run([CHECKOUT / "scripts/machine/venv", "import"], check=False).returncode
    ):
        raise MachineError(f"{scheme}:// needs {missing[0]}, which could not be installed", hint="reprise doctor")
    python = str(home / "bin" / "python")
    os.execv(python, [python, "-P", "-m", "trainer", *sys.argv[1:]])  # noqa: S606 - this command, without a shell


@contextmanager
def _staging(name: str, listing: UpstreamListing) -> Iterator[Path]:
    """Yield a folder for downloads, and remove it after the publication.

    After a failure the folder is kept, so that the same import resumes, unless the checkout is not writable.
    """
    if not os.access(CHECKOUT, os.W_OK):
        with tempfile.TemporaryDirectory(prefix="reprise-import-") as temporary:
            yield Path(temporary)
        return
    folder = CHECKOUT / ".reprise" / "imports" / f"{name}-{re.sub('^sha256:', '', listing.digest)[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(folder)


def _only_file(folder: Path) -> Path | None:
    """Return the only entry of a folder if it is a file; otherwise `None`."""
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_file() else None


def _published_path(folder: Path, *, has_hidden: bool) -> Path:
    """Return the only file in `folder` if it is a table or holds weights; otherwise `folder`."""
    paths = SourceFolder(root=folder, has_hidden=has_hidden).paths()
    only = folder / paths[0]
    return only if len(paths) == 1 and (is_table_file(only) or _has_weights(only)) else folder


def _has_weights(file: Path) -> bool:
    """Return whether a file holds weights, by its suffix, or by its first bytes if it has the common suffix `.bin`."""
    if file.suffix != ".bin":
        return is_weights_file(file)
    with file.open("rb") as data:
        return data.read(2) in _PICKLES
