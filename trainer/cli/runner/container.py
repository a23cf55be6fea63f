"""Rerunning a record from the host: in a container of the recorded image, without network access or credentials.

The container's user, the cache volume and the store come from `.env`, so the checkout must be set up.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from trainer.base.document import Document, parse_json
from trainer.base.errors import DotenvError, EngineError, ImageMissingError
from trainer.cli.checkout import DOTENV, compose_values, engine
from trainer.cli.configuration import export_store_variables, host_name
from trainer.cli.containers import container_launcher
from trainer.cli.output import print_progress
from trainer.cli.runner import Runner
from trainer.cli.trust import isolation
from trainer.comparison.reproduce import RUNS, ContainerSettings, ExtraAccess, PreparedRerun, change_owner, run_confined
from trainer.comparison.rerun import image_name, obtain_image
from trainer.data.cache import CACHE_LIMIT
from trainer.environments import installed_files
from trainer.environments.dotenv import read_block
from trainer.environments.engine import IsolatedContainer, Mount
from trainer.environments.engine.compose import volume
from trainer.environments.setup import owner
from trainer.launch.container import kill_container
from trainer.launch.contract import CommandRequest
from trainer.runs.record import Knowledge
from trainer.stores.address import LOCAL_ENDPOINT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.data.declaration import Dataset
    from trainer.environments.engine import Engine, ImageFacts
    from trainer.environments.engine.docker import DockerEngine
    from trainer.runs.record import Record

_STORE_MOUNT: Final = "/rerun-store"
_KEYS: Final = {
    "AWS_ACCESS_KEY_ID": "REPRISE_STORE_KEY",
    "AWS_SECRET_ACCESS_KEY": "REPRISE_STORE_SECRET",
    "AWS_SESSION_TOKEN": "REPRISE_STORE_TOKEN",
    "AWS_DEFAULT_REGION": "",
}
"""The store's variables in containers, and the corresponding variables of the local store in `.env`."""


class ContainerRunner(Runner):
    """Reruns in a container on this machine."""

    how = "container"
    is_isolated = True
    engine: DockerEngine

    def __init__(self, granted: frozenset[str] = frozenset()) -> None:
        """Read `.env`. Raise `DotenvError` if the checkout is not set up."""
        self._names = granted
        self.isolation = isolation(granted)
        values = read_block(DOTENV).values if DOTENV.is_file() else {}
        if "COMPOSE_PROJECT_NAME" not in values:
            raise DotenvError("this checkout is not set up to run containers", hint="scripts/setup --build")
        user = owner(os.getuid(), os.getgid())
        self._uid, self._gid = int(values.get("REPRISE_UID", user.uid)), int(values.get("REPRISE_GID", user.gid))
        export_store_variables(DOTENV)
        self.engine = engine()

    def altered(self, record: Record) -> tuple[int, list[str]]:
        """Hash every installed file of the recorded image, with the current script in a container of the image."""
        image = obtain_image(image_name(record), engine=self.engine)
        return hash_image_files(image, user=f"{self._uid}:{self._gid}", engine=self.engine)

    def provide_datasets(self, datasets: Sequence[Dataset], ready: PreparedRerun) -> None:
        """Fetch datasets in a container of the current image, which has the network and the store's credentials."""
        change_owner(ready, uid=self._uid, gid=self._gid)
        options = volume(ready.store, _STORE_MOUNT)
        if datasets and (code := _fetch(datasets, "--into", _STORE_MOUNT, options=options)):
            raise EngineError("the datasets could not be fetched", hint=f"see the output above (exit code {code})")

    def run(self, ready: PreparedRerun) -> tuple[int, Knowledge]:
        """Run the rerun in a container of the recorded image, which is identified by its digest."""
        image, access = self._image(ready), self._granted()
        settings = ContainerSettings(
            image=image,
            uid=self._uid,
            gid=self._gid,
            host=host_name(),
            access=access,
            cache_limit=compose_values().get(CACHE_LIMIT, ""),
        )
        container_path, host_path = f"{RUNS}/{ready.run}", str(ready.folder)

        def print_line(line: str) -> None:
            print_progress(line.replace(container_path, host_path))

        with closing(self.engine) as host:
            return run_confined(ready, container=settings, engine=host, say=print_line), Knowledge.VERIFIED

    def _image(self, ready: PreparedRerun) -> ImageFacts:
        """Return the recorded image; for a resumed run without one, the image of this checkout, which the user must allow."""
        if not ready.resumes or ready.original.ingredients.layers is not None:
            return obtain_image(image_name(ready.original), engine=self.engine)
        reference = compose_values().get("REPRISE_IMAGE", "")
        if image := self.engine.image(reference):
            return image
        raise ImageMissingError(f"the image {reference} is not on this machine", hint="scripts/setup --build")

    def _granted(self) -> ExtraAccess:
        values, names = compose_values(), self._names
        if not names & {"network", "store"}:
            return ExtraAccess()
        network = values.get("REPRISE_STORE_NETWORK") or f"{values['COMPOSE_PROJECT_NAME']}_default"
        if "store" not in names:
            return ExtraAccess(network=network)
        folder = values.get("REPRISE_STORE_FOLDER")
        keys = {name: value for name in _KEYS if (value := _store_key(name, values))}
        address = values.get("REPRISE_STORE") or "s3://reprise"
        endpoint = values.get("REPRISE_STORE_ENDPOINT") or LOCAL_ENDPOINT
        return ExtraAccess(
            network=network,
            variables=keys | {"REPRISE_STORE": address, "AWS_ENDPOINT_URL_S3": endpoint},
            mounts=(Mount(source=Path(folder), target=folder, writable=True),) if folder else (),
        )

    def kill(self, ready: PreparedRerun) -> None:
        """Send SIGKILL to every process in the rerun's container."""
        kill_container(ready.run)

    def is_cached(self, dataset: Dataset) -> bool:
        """Return whether the containers' cache has all of a dataset."""
        return _fetch([dataset], "--look", needs_store=False) == 0


def _fetch(datasets: Sequence[Dataset], *flags: str, options: Sequence[str] = (), needs_store: bool = True) -> int:
    """Run the hidden command `_fetch` in a container of the current image; return its exit code."""
    documents = [dataset.model_dump_json(exclude_none=True) for dataset in datasets]
    request = CommandRequest(words=["_fetch", *flags, *documents], needs_store=needs_store)
    return (
        container_launcher("-T", *options)
        .start(request, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        .output()[0]
    )


def _store_key(name: str, values: Mapping[str, str]) -> str:
    """Return a credential as compose.yaml passes it: of the local store, else of the shell, else of `.env`."""
    own = values.get(_KEYS[name], "")
    if own or (name == "AWS_SESSION_TOKEN" and _KEYS[name] in values):
        return own  # an empty token too: a token of another key must not be passed with the local store's key
    return os.environ.get(name) or values.get(name) or ""


_SCRIPT = "/run/reprise/installed_files.py"


class HashReport(Document):
    """The output of the script that hashes installed files."""

    format: Literal["reprise.hashed/1"]
    right: int
    altered: list[str]


def hash_image_files(image: ImageFacts, *, user: str, engine: Engine) -> tuple[int, list[str]]:
    """Return the number of files that have their recorded digest, and a line for each distribution with altered files."""
    lines: list[str] = []
    container = IsolatedContainer(
        name=f"reprise-hash-{secrets.token_hex(4)}",
        image=image.id,
        program=("python", "-I", _SCRIPT),
        words=(),
        variables={},
        mounts=(Mount(source=Path(installed_files.__file__), target=_SCRIPT),),
        user=user,
    )
    if code := engine.confine(container, say=lines.append):
        raise EngineError(f"the files of {image.id} could not be hashed: exit code {code}", hint="reprise doctor")
    report = parse_json(lines[-1] if lines else "", HashReport, where=f"the output of {image.id}")
    return report.right, report.altered
