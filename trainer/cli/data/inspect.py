"""Inspect a folder's samples before it is published: in this process if torch is installed, else in a container.

The container runs the environment's image without network and can only read the folder. If neither is possible, a note reports that samples
were not read; the first run reads them.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import tempfile
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from trainer.base.document import Document, parse_json, typed
from trainer.base.errors import DatasetError, DocumentError, DotenvError, EngineError, NotWritableError
from trainer.base.suggestions import counted
from trainer.cli.checkout import DOTENV, compose_values, engine
from trainer.cli.configuration import CHECKOUT
from trainer.data.declaration import Draft
from trainer.data.inspection import LARGEST_WHOLE, Inspection, describe_overflows, require_publishable
from trainer.data.reader import ArraysReader, ImagesReader, LinesReader, TableReader, TextReader
from trainer.data.token_ids import has_library
from trainer.environments.engine import IsolatedContainer, Mount
from trainer.environments.setup import require_images
from trainer.runs.image_file import IMAGE_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.data.declaration import Described
    from trainer.environments.engine import Engine, ImageFacts

_DATA: Final = "/data"
_REQUEST: Final = "/run/reprise/request.json"


def main(argv: list[str]) -> int:
    """Inspect the folder `argv[0]` for the request in the file `argv[1]`; print the result as one line of JSON."""
    folder, request = Path(argv[0]), json.loads(Path(argv[1]).read_text(encoding="utf-8"))
    draft = typed(request["draft"], Draft, where="the request")
    needed = draft.reader.needed or request["paths"]
    if unreadable := next((path for path in needed if not os.access(folder / path, os.R_OK)), None):
        raise NotWritableError(
            f"{unreadable} is not readable by uid {os.getuid()}", hint=f"chmod +r {shlex.quote(unreadable)}"
        )
    try:
        output = _InspectionOutput(inspection=_inspect_folder(draft, folder, request["paths"]))
    except DatasetError as fault:
        output = _InspectionOutput(error=fault.message, hint=fault.hint)
    print(output.model_dump_json())
    return 0


class _InspectionOutput(Document):
    """The output of a container: an inspection or an error."""

    inspection: Inspection | None = None
    error: str = ""
    hint: str | None = None


def inspect_draft(root: Path, note: Callable[[str], None], draft: Described, paths: Sequence[str]) -> bool:
    """Inspect the samples of the files `paths` in the folder `root`; return whether nothing is left for the first run to read.

    Raise `DatasetError` if the samples cannot be published.
    """
    if isinstance(draft.reader, LinesReader | TextReader) and draft.reader.tokens:
        if has_library():
            return True  # `check_dataset` has already tokenized the text
    elif not isinstance(draft.reader, ArraysReader | ImagesReader | TableReader):
        return True  # any bytes are valid samples
    start = monotonic()
    try:
        inspection = _inspect_folder(draft, root, paths) if _reads_here(draft) else _in_container(draft, root, paths)
    except (EngineError, DotenvError, SamplesNotReadError) as fault:
        note(f"{draft.name}: samples were not read ({fault}); the first run reads them, before its first step")
        return False
    require_publishable(inspection, draft)
    for line in describe_overflows(inspection, draft):
        note(line)
    count = sum(values.samples for values in inspection.splits.values())
    note(f"{draft.name}: {counted(count, 'sample')} inspected ({monotonic() - start:.1f} s)")
    return True


def _reads_here(draft: Described) -> bool:
    is_tokenized = isinstance(draft.reader, LinesReader | TextReader)
    return find_spec("torch") is not None and (has_library() or not is_tokenized)


def _inspect_folder(draft: Described, root: Path, paths: Sequence[str]) -> Inspection:
    from trainer.data.files import FolderFiles
    from trainer.data.splits import select
    from trainer.training.readers import open_samples
    from trainer.training.readers.inspect import inspect_samples

    samples = open_samples(draft, FolderFiles(root, paths))
    splits: dict[str, Any] = {
        name: select(name, draft.splits, samples.layout, dataset=draft.name) for name in draft.splits
    }
    return inspect_samples(samples, splits or {"": range(len(samples))})


class SamplesNotReadError(Exception):
    """Samples could not be read; `inspect_draft` prints the message in a note."""


def _in_container(draft: Described, root: Path, paths: Sequence[str]) -> Inspection:
    if IMAGE_FILE.exists():
        raise SamplesNotReadError("this image has no torch")
    if not DOTENV.is_file():
        raise SamplesNotReadError("this checkout has no image yet: scripts/setup --build")
    if link := next((path for path in paths if (root / path).is_symlink()), None):
        raise SamplesNotReadError(f"{link} is a symbolic link, which a container cannot follow")
    with closing(engine()) as docker, tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as request:
        values = compose_values()
        require_images({**values, "COMPOSE_PROFILES": ""}, engine=docker)
        image = docker.image(values["REPRISE_IMAGE"]) if values.get("REPRISE_IMAGE") else None
        if image is None:
            raise SamplesNotReadError("the environment's image is not on this machine: scripts/setup --build")
        required = list(paths) if isinstance(draft.reader, ImagesReader) else list(draft.reader.needed)
        json.dump({"draft": draft.model_dump(mode="json"), "paths": required}, request)
        request.flush()
        Path(request.name).chmod(0o644)
        return run_inspection(docker, image, folder=root.resolve(), request=Path(request.name))


def run_inspection(docker: Engine, image: ImageFacts, *, folder: Path, request: Path) -> Inspection:
    """Inspect a folder in a container, as this user, or as the owner of the folder if this user is root.

    Raise `DatasetError` for invalid samples, `SamplesNotReadError` if the container fails.
    """
    owner = folder.stat()
    uid, gid = (os.getuid(), os.getgid()) if os.getuid() else (owner.st_uid, owner.st_gid)
    lines: list[str] = []
    container = IsolatedContainer(
        name=f"reprise-inspect-{secrets.token_hex(4)}",
        image=image.id,
        words=("_inspect", _DATA, _REQUEST),
        variables={},
        mounts=(
            Mount(source=CHECKOUT, target="/project"),
            Mount(source=folder, target=_DATA),
            Mount(source=request, target=_REQUEST),
        ),
        user=f"{uid}:{gid}",
    )
    if code := docker.confine(container, say=lines.append):
        raise SamplesNotReadError(f"the container exited with code {code}: {' '.join(lines[-2:])[:200]}")
    line = lines[-1] if lines else ""
    try:
        output = parse_json(line, _InspectionOutput, where="the inspection", whole=LARGEST_WHOLE)
    except DocumentError as fault:
        raise SamplesNotReadError(f"the container printed {line[:100]!r}") from fault
    if output.inspection is None:
        raise DatasetError(output.error, hint=output.hint)
    return output.inspection
