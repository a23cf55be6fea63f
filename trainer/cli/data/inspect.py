"""Inspecting a folder's samples before it is published: here if torch is, else in a container of the environment's image.

The container has no network and reads the folder alone. If there is neither, a note says that samples were not read: the first run does.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from trainer.base.document import Document, parse_json, typed
from trainer.base.errors import DatasetError, DocumentError, DotenvError, EngineError, NotWritableError
from trainer.cli.checkout import DOTENV, compose_values, engine
from trainer.cli.places import CHECKOUT
from trainer.data.declaration import Draft
from trainer.data.inspection import LARGEST_WHOLE, Inspection, describe_overflows, require_publishable
from trainer.data.reader import Arrays, Images, Table
from trainer.environments.engine import Confined, Mount
from trainer.environments.setup import require_images
from trainer.runs.image_claim import BAKED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.data.declaration import Described
    from trainer.environments.engine import Engine, ImageFacts

_DATA: Final = "/data"
_REQUEST: Final = "/run/reprise/request.json"
_LATER: Final = "the first run reads them, before its first step"


def main(argv: list[str]) -> int:
    """Inspect the folder `argv[0]` as the request in the file `argv[1]` says; print the inspection as one line of JSON."""
    folder, request = Path(argv[0]), json.loads(Path(argv[1]).read_text(encoding="utf-8"))
    draft = typed(request["draft"], Draft, where="the request")
    needed = draft.reader.needed or request["paths"]
    if hidden := next((path for path in needed if not os.access(folder / path, os.R_OK)), None):
        raise NotWritableError(f"{hidden} cannot be read by uid {os.getuid()}", hint="change its mode")
    try:
        answer = _Answer(seen=_inspected(draft, folder, request["paths"]))
    except DatasetError as fault:
        answer = _Answer(said=fault.message, hint=fault.hint)
    print(answer.model_dump_json())
    return 0


class _Answer(Document):
    """What a container answers: an inspection, or why the folder has none."""

    seen: Inspection | None = None
    said: str = ""
    hint: str | None = None


def inspector(root: Path, note: Callable[[str], None]) -> Callable[[Described, Sequence[str]], bool]:
    """Give what inspects a draft with the files of the folder `root`, if it can, and raises `DatasetError` for what is not published."""
    return partial(_inspect, root, note)


def _inspect(root: Path, note: Callable[[str], None], draft: Described, paths: Sequence[str]) -> bool:
    if not isinstance(draft.reader, Arrays | Images | Table):
        return True  # bytes, whatever they are
    began = monotonic()
    try:
        seen = _inspected(draft, root, paths) if find_spec("torch") else _in_container(draft, root, paths)
    except (EngineError, DotenvError, NotRead) as fault:
        note(f"{draft.name}: samples were not read ({fault}); {_LATER}")
        return False
    require_publishable(seen, draft)
    for line in describe_overflows(seen, draft):
        note(line)
    count = sum(values.samples for values in seen.splits.values())
    note(f"{draft.name}: {count:,} samples inspected ({monotonic() - began:.1f} s)")
    return True


def _inspected(draft: Described, root: Path, paths: Sequence[str]) -> Inspection:
    from trainer.data.splits import select
    from trainer.training.readers import open_samples
    from trainer.training.readers.folder import Folder
    from trainer.training.readers.inspect import inspect_samples

    samples = open_samples(draft, Folder(root, paths))
    splits: dict[str, Any] = {
        name: select(name, draft.splits, samples.layout, dataset=draft.name) for name in draft.splits
    }
    return inspect_samples(samples, splits or {"": range(len(samples))})


class NotRead(Exception):  # noqa: N818 - it becomes a note
    """Why samples were not read."""


def _in_container(draft: Described, root: Path, paths: Sequence[str]) -> Inspection:
    if BAKED.exists():
        raise NotRead("this image has no torch")
    if not DOTENV.is_file():
        raise NotRead("this checkout is not set up for an image: scripts/setup --build")
    if linked := next((path for path in paths if (root / path).is_symlink()), None):
        raise NotRead(f"{linked} is a link, which a container cannot follow")
    with closing(engine()) as docker, tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as request:
        values = compose_values()
        require_images({**values, "COMPOSE_PROFILES": ""}, engine=docker)
        image = docker.image(values["REPRISE_IMAGE"]) if values.get("REPRISE_IMAGE") else None
        if image is None:
            raise NotRead("the environment's image is not on this machine: scripts/setup --build")
        json.dump({"draft": draft.model_dump(mode="json"), "paths": _needed(draft, paths)}, request)
        request.flush()
        Path(request.name).chmod(0o644)
        return run_inspection(InspectionRequest(root=root.resolve(), file=Path(request.name), image=image), docker)


def _needed(draft: Described, paths: Sequence[str]) -> list[str]:
    return list(paths) if isinstance(draft.reader, Images) else list(draft.reader.needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionRequest:
    """What a container is to inspect."""

    root: Path
    file: Path
    image: ImageFacts


def run_inspection(request: InspectionRequest, docker: Engine) -> Inspection:
    """Inspect in a container; whoever owns the folder reads it."""
    owner = request.root.stat()
    uid, gid = (os.getuid(), os.getgid()) if os.getuid() else (owner.st_uid, owner.st_gid)
    lines: list[str] = []
    container = Confined(
        name=f"reprise-inspect-{secrets.token_hex(4)}",
        image=request.image.id,
        words=("_inspect", _DATA, _REQUEST),
        variables={},
        mounts=(
            Mount(source=CHECKOUT, target="/project"),
            Mount(source=request.root, target=_DATA),
            Mount(source=request.file, target=_REQUEST),
        ),
        user=f"{uid}:{gid}",
    )
    if code := docker.confine(container, say=lines.append):
        raise NotRead(f"its container ended with exit code {code}: {' '.join(lines[-2:])[:200]}")
    return _answered(lines[-1] if lines else "")


def _answered(line: str) -> Inspection:
    try:
        answer = parse_json(line, _Answer, where="the inspection", whole=LARGEST_WHOLE)
    except DocumentError as fault:
        raise NotRead(f"its container answered {line[:100]!r}") from fault
    if answer.seen is None:
        raise DatasetError(answer.said, hint=answer.hint)
    return answer.seen
