"""Write the Parquet file of a table, and compute the replacements of missing values: in this process if it has torch, else in a container.

The container runs the environment's image without network; it can read the table, and write only to an empty folder.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.base.document import Document, parse_json
from trainer.base.errors import DatasetError, MachineError
from trainer.cli.checkout import DOTENV, compose_values, engine
from trainer.cli.configuration import CHECKOUT
from trainer.data.declaration import Draft
from trainer.data.files import FolderFiles
from trainer.data.reader import TableReader
from trainer.data.tables.convert import write_parquet
from trainer.data.tables.table_file import blocks_of
from trainer.environments.engine import IsolatedContainer, Mount
from trainer.environments.setup import require_images
from trainer.runs.image_file import IMAGE_FILE

if TYPE_CHECKING:
    from trainer.environments.engine import Engine, ImageFacts

_DATA, _OUT, _REQUEST = "/data", "/out", "/run/reprise/request.json"
_NEEDS = "publishing a table needs pyarrow and torch"


class _PreparationOutput(Document):
    """The output of a container."""

    fills: dict[str, float] = {}
    error: str = ""
    hint: str | None = None


def main(argv: list[str]) -> int:
    """Prepare the table `argv[0]` in the folder `argv[1]` for the request in the file `argv[2]`; print the result as one line of JSON."""
    file, folder, request = map(Path, argv)
    draft = parse_json(request.read_bytes(), Draft, where="the request")
    try:
        output = _PreparationOutput(fills=_prepare(draft, file, folder))
    except DatasetError as fault:
        output = _PreparationOutput(error=fault.message, hint=fault.hint)
    print(output.model_dump_json())
    return 0


def prepare_table(draft: Draft, file: Path, folder: Path) -> Draft:
    """Write the Parquet file of `draft` into an empty folder; return the draft with the replacements of missing values.

    Raise `DatasetError` for a value that does not fit, `MachineError` if neither this Python nor an image has torch.
    """
    fills = _prepare(draft, file, folder) if find_spec("torch") else _in_container(draft, file, folder)
    reader = draft.reader
    assert isinstance(reader, TableReader)  # noqa: S101 - the draft is of a table
    columns = {name: each.model_copy(update={"fill": fills.get(name)}) for name, each in reader.columns.items()}
    return draft.model_copy(update={"reader": reader.model_copy(update={"columns": columns})})


def _prepare(draft: Draft, file: Path, folder: Path) -> dict[str, float]:
    from trainer.training.readers.fills import fit_fills

    source = draft.source_table
    assert source is not None  # noqa: S101 - the draft is of a table
    assert isinstance(draft.reader, TableReader)  # noqa: S101 - the draft is of a table
    write_parquet(source, blocks_of(file, source), folder / draft.reader.files[0])
    return fit_fills(draft, FolderFiles(folder))


def _in_container(draft: Draft, file: Path, folder: Path) -> dict[str, float]:
    if IMAGE_FILE.exists():
        raise MachineError(
            f"{_NEEDS}; this image has no torch", hint="use an environment with torch: environments/cpu.toml"
        )
    if not DOTENV.is_file():
        raise MachineError(f"{_NEEDS}; this checkout has no image yet", hint="scripts/setup --build")
    with closing(engine()) as docker, tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as request:
        values = compose_values()
        require_images({**values, "COMPOSE_PROFILES": ""}, engine=docker)
        image = docker.image(values["REPRISE_IMAGE"]) if values.get("REPRISE_IMAGE") else None
        if image is None:
            raise MachineError(
                f"{_NEEDS}; the environment's image is not on this machine", hint="scripts/setup --build"
            )
        json.dump(draft.model_dump(mode="json"), request)
        request.flush()
        Path(request.name).chmod(0o644)
        return run_preparation(docker, image, file=file, folder=folder, request=Path(request.name))


def run_preparation(docker: Engine, image: ImageFacts, *, file: Path, folder: Path, request: Path) -> dict[str, float]:
    """Prepare a table in a container, as this user.

    Raise `DatasetError` for a value that does not fit, `MachineError` if the container fails.
    """
    lines: list[str] = []
    container = IsolatedContainer(
        name=f"reprise-table-{secrets.token_hex(4)}",
        image=image.id,
        words=("_table", f"{_DATA}/{file.name}", _OUT, _REQUEST),
        variables={},
        mounts=(
            Mount(source=CHECKOUT, target="/project"),
            Mount(source=file, target=f"{_DATA}/{file.name}"),
            Mount(source=folder, target=_OUT, writable=True),
            Mount(source=request, target=_REQUEST),
        ),
        user=f"{os.getuid()}:{os.getgid()}",
    )
    if (code := docker.confine(container, say=lines.append)) or not lines:
        message = f"{file.name} was not published: the container exited with code {code}: {' '.join(lines[-2:])[:200]}"
        raise MachineError(message, hint="reprise doctor")
    output = parse_json(lines[-1], _PreparationOutput, where="the container's output")
    if output.error:
        raise DatasetError(output.error, hint=output.hint)
    return output.fills
