"""`reprise train` on a host without torch: runs the same command in a container of the environment's image.

This process inspects the container from outside, so the record can state that its image is verified.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.digest import is_digest
from trainer.base.errors import DotenvError
from trainer.cli.checkout import check_store_port, compose_values, engine
from trainer.cli.configuration import TYPED, hand_in_store, runs_folder
from trainer.cli.experiments import copy_into_run
from trainer.cli.in_image import settings_handed_in
from trainer.cli.output import print_notice
from trainer.cli.ownership import hand_over
from trainer.environments.dotenv import read_block
from trainer.environments.engine.compose import run_command, start
from trainer.environments.setup import owner, require_environment, require_folder, require_images
from trainer.launch.container import container_name
from trainer.launch.training import ContainerTraining, wait_recording_image
from trainer.runs.image_claim import WATCHED
from trainer.runs.resume import move_seen_image, require_not_running
from trainer.runs.run import abandon, new_run
from trainer.settings.fields import PURPOSE

if TYPE_CHECKING:
    from trainer.cli.experiments import ExperimentFile


_DIGESTS: Final = ("REPRISE_BUILD_ID", "REPRISE_IMAGE_CONFIG")


def train_in_container(argv: list[str], place: ExperimentFile, *, checkout: Path, begun: str | None = None) -> int:
    """Train in a container and return its exit status; `begun` is a run whose folder exists already."""
    require_set_up(checkout)
    folder = runs_folder() / begun if begun else new_run(runs_folder())[1]
    copy_into_run(place, folder)
    hand_over(folder, checkout=checkout)
    try:
        return _train(argv, folder, checkout=checkout)
    finally:
        abandon(folder)


def resume_in_container(argv: list[str], folder: Path, *, checkout: Path) -> int:
    """Resume a run in a container and return its exit status."""
    require_set_up(checkout)
    require_not_running(folder)  # a container of the interrupted attempt has the same name
    move_seen_image(folder)
    hand_over(folder, checkout=checkout)
    return _train(argv, folder, checkout=checkout)


def require_set_up(checkout: Path) -> None:
    """Raise the error of a checkout or machine in which compose would fail: `DotenvError`, `ImageMissingError` and others."""
    if not (checkout / ".env").is_file():
        raise DotenvError(
            "training needs torch or the image, and this checkout is not set up for one",
            hint="scripts/train does what is missing",
        )
    require_current(checkout / ".env")
    values = read_block(checkout / ".env").values
    require_environment(values, root=checkout)
    hand_in_store(checkout / ".env")
    compose = compose_values()
    if folder := compose.get("REPRISE_STORE_FOLDER"):
        require_folder(Path(folder), who=owner(os.getuid(), os.getgid()), root=checkout)
    with closing(engine()) as host:
        require_images(compose, engine=host)
        if compose.get("COMPOSE_PROFILES") == "store":
            check_store_port(host, values, again=os.environ.get(TYPED) or "scripts/setup, then type it again")


def require_current(path: Path) -> None:
    """Raise `DotenvError` if the managed block of `.env` was edited by hand or belongs to another user."""
    block, who = read_block(path), owner(os.getuid(), os.getgid())
    if block.edited:
        invalid = [
            f"; {name} is not a digest: {value!r}"
            for name in _DIGESTS
            if (value := block.values.get(name)) and not is_digest(value)
        ]
        raise DotenvError(
            f"the managed block in .env was edited by hand{''.join(invalid)}",
            hint="scripts/setup writes it again and lists what it replaces",
        )
    if block.exists and (uid := block.values.get("REPRISE_UID")) != str(who.uid):
        raise DotenvError(
            f".env is stale: its containers run as uid {uid}; this user is {who.uid}", hint="scripts/setup"
        )


def _train(argv: list[str], folder: Path, *, checkout: Path) -> int:
    settings = settings_handed_in(os.environ)
    purpose = (
        [f"--env={PURPOSE}"] if PURPOSE in os.environ else []
    )  # not for users to type: the printed command omits it
    options = ["--name", container_name(folder.name), "--env", f"{WATCHED}={folder.name}", *purpose, *settings]
    print("reprise:", shlex.join(run_command(argv, options=settings)), file=sys.stderr)
    process = start(run_command(argv, options=options), cwd=checkout)
    with closing(engine()) as host:
        training = ContainerTraining(folder, engine=host, process=process, report=print_notice)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: training.send_signal(number))
        return wait_recording_image(training)
