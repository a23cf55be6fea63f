"""`reprise data publish NAME FILE`: a weights file as a folder with one safetensors file, converted from a pickle if necessary."""

from __future__ import annotations

import shlex
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.digest import digest_of_file
from trainer.base.errors import DatasetError, MachineError, UsageError
from trainer.base.suggestions import counted, listed
from trainer.cli.data.publish_options import require_readers
from trainer.cli.output import print_progress
from trainer.data.check import UNKNOWN
from trainer.data.reader import Weights

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

SAFE: Final = ".safetensors"
PICKLED: Final = frozenset({".pt", ".pth", ".ckpt", ".bin"})
_READERS: Final = ("array", "images", "column", "table", "lines", "text", "tokenizer", "split", "sample")
_CONVERTED: Final = "converted from "
_MOST: Final = 20
"""Maximum number of omitted entries that a declaration names."""


def is_weights_file(path: Path) -> bool:
    """Return whether a path is published as weights: it has the suffix of a weights file and is not a folder."""
    return path.suffix in PICKLED | {SAFE} and not path.is_dir()


@contextmanager
def folder_of_weights(args: Namespace) -> Iterator[Path]:
    """Yield a temporary folder with the weights of the file `args.folder`; set `args.reader` and `args.conversion`.

    Raise `DatasetError` if the file cannot be read, `UsageError` for an option that does not apply, `MachineError` if a pickle must be
    converted without torch.
    """
    path: Path = args.folder
    for name in _READERS:
        if getattr(args, name):
            raise UsageError(f"--{name} has no effect: {path} is a weights file", hint=f"remove --{name}")
    require_readers(args)
    if not path.is_file():
        raise DatasetError(f"{path} is not a file", hint=f"list the files: ls {shlex.quote(str(path.parent))}")
    args.reader, args.conversion = {"kind": "weights"}, ""
    with tempfile.TemporaryDirectory(prefix="reprise-weights-") as temporary:
        target = Path(temporary) / Weights(kind="weights").file
        if path.suffix == SAFE:
            target.symlink_to(path.resolve())
        else:
            args.conversion = _convert(path, target)
        yield Path(temporary)


def with_conversion(source: str, conversion: str) -> str:
    """Return the origin `source` of a dataset with `conversion`, which replaces the conversion of an earlier version.

    >>> with_conversion("https://example.com; converted from a.pt (sha256:0)", "converted from b.pt (sha256:1)")
    'https://example.com; converted from b.pt (sha256:1)'
    >>> with_conversion("converted from a.pt (sha256:0)", "")
    'unknown'
    """
    origin = "" if source.startswith((_CONVERTED, UNKNOWN)) else source.partition(f"; {_CONVERTED}")[0]
    return "; ".join(filter(None, (origin, conversion))) or UNKNOWN


def _convert(path: Path, target: Path) -> str:
    """Write the tensors of a pickle to a safetensors file; return a description of the conversion."""
    if find_spec("torch") is None:
        raise MachineError(
            f"{path} is a pickle: converting it needs torch, which this Python does not have",
            hint=f"copy it into the checkout, then: docker compose run --rm train data publish NAME {shlex.quote(path.name)}",
        )
    from trainer.training.convert_weights import convert_weights

    report = convert_weights(path, target)
    inside = f", of its entry {report.entry}" if report.entry else ""
    names = f": {listed(report.left_out[:_MOST])}" if report.left_out else ""
    left_out = f"; {counted(len(report.left_out), 'entry')} left out{names}" if report.left_out else ""
    print_progress(f"{path.name}: {counted(report.tensors, 'tensor')} converted{inside}{left_out}")
    return f"{_CONVERTED}{path.name}{inside} ({digest_of_file(path)}) by torch.load(weights_only=True){left_out}"
