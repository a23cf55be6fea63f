"""Rerunning a record from the host: in a container of the recorded image, without network and credentials.

The container's user, the cache volume and the store come from `.env`, so the checkout must be set up.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import closing, suppress
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, Final, Literal

from trainer.base.errors import DotenvError, EngineError, ImageMissingError
from trainer.cli.checkout import DOTENV, ROOT, compose_values, engine
from trainer.cli.configuration import configured_store, hand_in_store, host_name, runs_folder
from trainer.cli.output import print_progress
from trainer.cli.trust import isolation
from trainer.comparison.examine_run import MachineResources
from trainer.comparison.reproduce import RUNS, ContainerSettings, ExtraAccess, PreparedRerun, change_owner, run_confined
from trainer.comparison.rerun import image_name, obtain_image
from trainer.environments.dotenv import read_block
from trainer.environments.engine import Mount
from trainer.environments.engine.compose import call, run_command, volume
from trainer.environments.hash_image import hash_image_files
from trainer.environments.setup import owner
from trainer.launch.container import kill_container
from trainer.runs.hardware import read_host
from trainer.runs.record import Knowledge
from trainer.stores.address import LOCAL_ENDPOINT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.data.declaration import Dataset
    from trainer.environments.engine import ImageFacts
    from trainer.runs.record import Record


_LENT: Final = "/lent"
_KEYS: Final = {
    "AWS_ACCESS_KEY_ID": "REPRISE_STORE_KEY",
    "AWS_SECRET_ACCESS_KEY": "REPRISE_STORE_SECRET",
    "AWS_SESSION_TOKEN": "REPRISE_STORE_TOKEN",
    "AWS_DEFAULT_REGION": "",
}
"""Variables of the store in containers, and the names of the local store's own in `.env`."""


class OnHost:
    """Reruns in a container on this machine."""

    how: Literal["container", "here"] = "container"
    is_isolated = True

    def __init__(self, granted: frozenset[str] = frozenset()) -> None:
        """Read `.env`. Raises `DotenvError` if the checkout is not set up."""
        self._names = granted
        self.isolation = isolation(granted)
        self._values: Mapping[str, str] = read_block(DOTENV).values if DOTENV.is_file() else {}
        if "COMPOSE_PROJECT_NAME" not in self._values:
            raise DotenvError("this checkout is not set up to run containers", hint="scripts/setup --build")
        hand_in_store(DOTENV)
        self._engine = engine()

    def machine(self) -> MachineResources:
        """Return the engine, the store, the cache and the hardware of this machine."""
        runs = runs_folder()
        return MachineResources(
            engine=self._engine,
            open_store=configured_store,
            cached=self._cached,
            host=read_host(name=host_name()),
            free=disk_usage(runs if runs.is_dir() else ROOT).free,
        )

    def not_equal(self, record: Record) -> list[str]:
        """Return an empty list: the image is the recorded one."""
        del record
        return []

    def altered(self, record: Record) -> tuple[int, list[str]]:
        """Hash every installed file of the recorded image, with the current script in a container of the image."""
        image = obtain_image(image_name(record), engine=self._engine)
        uid, gid = self._user()
        return hash_image_files(image, user=f"{uid}:{gid}", engine=self._engine)

    def lend(self, datasets: Sequence[Dataset], ready: PreparedRerun) -> None:
        """Fetch datasets in a container of the current image, which has the network and the store's credentials."""
        uid, gid = self._user()
        change_owner(ready, uid=uid, gid=gid)
        lent = volume(ready.store, _LENT)
        if datasets and (code := self._compose("--into", _LENT, *_documents(datasets), options=lent)):
            raise EngineError("the datasets could not be fetched", hint=f"the lines above say why (exit code {code})")

    def run(self, ready: PreparedRerun) -> tuple[int, Knowledge]:
        """Run it in the recorded image, by its digest."""
        image = self._image(ready)
        uid, gid = self._user()
        inside, outside = f"{RUNS}/{ready.run}", str(ready.folder)

        def say(line: str) -> None:
            print_progress(line.replace(inside, outside))

        with closing(self._engine) as host:
            code = run_confined(
                ready,
                container=ContainerSettings(image=image, uid=uid, gid=gid, host=host_name(), access=self._granted()),
                engine=host,
                say=say,
            )
        return code, Knowledge.VERIFIED

    def _image(self, ready: PreparedRerun) -> ImageFacts:
        """Return the recorded image; for a resumed run without one, the image of this checkout, which the user must allow."""
        if not ready.resumes or ready.original.ingredients.layers is not None:
            return obtain_image(image_name(ready.original), engine=self._engine)
        reference = compose_values().get("REPRISE_IMAGE", "")
        if image := self._engine.image(reference):
            return image
        raise ImageMissingError(f"the image {reference} is not on this machine", hint="scripts/setup --build")

    def _granted(self) -> ExtraAccess:
        """Return the user's grants as network, variables and mounts of a container."""
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
        """Send SIGKILL to every process of its container."""
        kill_container(ready.run)

    def _user(self) -> tuple[int, int]:
        who = owner(os.getuid(), os.getgid())
        return int(self._values.get("REPRISE_UID", who.uid)), int(self._values.get("REPRISE_GID", who.gid))

    def _cached(self, dataset: Dataset) -> bool:
        return self._compose("--look", *_documents([dataset]), options=("--no-deps",)) == 0

    def _compose(self, *words: str, options: tuple[str, ...]) -> int:
        command = run_command(["_fetch", *words], options=("-T", *options))
        return call(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)[0]


def wake_store() -> None:
    """Start the local store if it is configured and does not run."""
    hand_in_store(DOTENV)
    values = compose_values()
    if values.get("COMPOSE_PROFILES") != "store":
        return
    with suppress(EngineError), closing(engine()) as docker:
        if not docker.serves(values["COMPOSE_PROJECT_NAME"], "store"):
            command = ["docker", "compose", "up", "--detach", "--wait", "--quiet-pull", "store"]
            call(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _store_key(name: str, values: Mapping[str, str]) -> str:
    """Return a credential as compose.yaml passes it: of the local store, else of the shell, else of `.env`."""
    own = values.get(_KEYS[name], "")
    if own or (name == "AWS_SESSION_TOKEN" and _KEYS[name] in values):  # a key without a token has none of another key
        return own
    return os.environ.get(name) or values.get(name) or ""


def _documents(datasets: Sequence[Dataset]) -> list[str]:
    return [dataset.model_dump_json(exclude_none=True) for dataset in datasets]
