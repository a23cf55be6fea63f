"""The options of `data publish` that say how pictures are read, as they are typed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import UsageError
from trainer.base.suggestions import short
from trainer.cli.data.inner_paths import inner_path
from trainer.data.reader import MOST_PIXELS

if TYPE_CHECKING:
    from argparse import Namespace

OPTIONS: Final = ("size", "resize", "fill", "mode", "pixels", "white", "alpha", "frames", "classes", "labels")
"""Those that have no effect without `--images`."""


def parse_images(words: Namespace) -> dict[str, Any]:
    """A reader of pictures, as it is declared. Raises `UsageError`."""
    _require_effect(words)
    given = {"dtype" if name == "pixels" else name: getattr(words, name) for name in OPTIONS}
    given["size"] = _size(words.size)
    if words.labels is not None:
        given["labels"] = inner_path(words.labels, folder=words.folder, before="--labels ")
    return {
        "kind": "images",
        "folder": _folder(words),
        **{key: value for key, value in given.items() if value is not None},
        "classes": [] if words.classes is None else _class_names(words.classes),
    }


def _require_effect(words: Namespace) -> None:
    """Raise `UsageError` for an option that has no effect with the others."""
    if words.resize and not words.size:
        raise UsageError(
            f"--resize {words.resize} has no effect without --size", hint="as --size 64x64, height and width"
        )
    if words.fill is not None and words.resize != "pad":
        raise UsageError(f"--fill {words.fill:g} has no effect without --resize pad", hint="leave it out")
    if words.alpha and words.mode == "RGBA":
        said = f"--alpha {words.alpha} has no effect with --mode RGBA, whose fourth channel is transparency"
        raise UsageError(said, hint="leave it out, or --mode RGB")


def _folder(words: Namespace) -> str:
    if words.images.rstrip("/") in {"", "."}:
        return ""
    return f"{inner_path(words.images, folder=words.folder, before='--images ')}/"


def _size(word: str | None) -> list[str] | None:
    """Height and width."""
    if word is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,8}[xX][1-9]\d{0,8}", word):
        raise UsageError(f"--size: expected HEIGHTxWIDTH in pixels, found {short(word)!r}", hint="as --size 48x64")
    height, width = word.lower().split("x")
    if int(height) * int(width) > MOST_PIXELS:
        raise UsageError(f"--size {word}: expected at most {MOST_PIXELS:,} pixels", hint="as --size 48x64")
    return [height, width]


def _class_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if "" in names:
        raise UsageError(f"--classes {short(text)!r}: a name is empty", hint="as --classes cat,dog")
    return names
