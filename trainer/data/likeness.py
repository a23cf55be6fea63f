"""What a folder of files looks like, by their names: said to somebody who published it without saying how a sample is read.

Knows names and the words a person types. Refuses to decide: a guess that is taken for the answer trains on the wrong thing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from trainer.data.pictures import SUFFIXES, has_picture_suffix

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SPLITS: Final = "--split train=0%:80% --split val=80%:90% --split test=90%:100%"
_FEW: Final = 4


def likeness(paths: Sequence[str]) -> tuple[str, str] | None:
    """What was found, and the options that read it so; None where the names tell nothing."""
    suffixes = Counter(_suffix(path) for path in paths)
    if pictures := [path for path in paths if has_picture_suffix(path)]:
        kind = max((suffix for suffix in suffixes if suffix in SUFFIXES), key=suffixes.__getitem__)
        folders = sorted({path.rpartition("/")[0] for path in pictures} - {""})
        inside = f" in {len(folders):,} folders ({_listed(folders)})" if folders else ""
        like = "it looks like an image folder" if len(folders) > 1 else "pictures, without folders that name classes"
        more = "" if len(folders) > 1 else " --labels FILE.csv"
        return f"{len(pictures):,} {kind[1:].upper()} files{inside}: {like}", f"--images .{more}"
    for suffix, name, options in _OTHERS:
        if found := [path for path in paths if _suffix(path) == suffix]:
            return f"{len(found):,} {name} files ({_listed(found)})", options.replace("FILE", found[0])
    return None


_OTHERS: Final = (
    (".npy", "NumPy", "--array FIELD=FILE, once for each field"),
    (".parquet", "Parquet", "--column FIELD=COLUMN, once for each field"),
    (".csv", "CSV", "--column FIELD=COLUMN, once it is written as Parquet"),
    (".jsonl", "JSON lines", "--lines FILE"),
    (".txt", "text", "--lines FILE"),
)


def _suffix(path: str) -> str:
    name = path.rpartition("/")[2].lower()
    return name[name.rfind(".") :] if "." in name else ""


def _listed(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(known[:_FEW]) + (", .." if len(known) > _FEW else "")
