"""`reprise train` on a host without torch: the same words in the environment's image, watched from outside.

Knows how the container is started, seen and stopped. Refuses to know what a run is made of: the launcher in the container does. Since
somebody outside of the container saw its image, the record can call it verified.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from trainer.base.digest import is_digest
from trainer.base.errors import DotenvError, EngineAbsentError, RepriseError
from trainer.cli.checkout import check_store_port, compose_values, engine
from trainer.cli.experiments import bring
from trainer.cli.in_image import settings_handed_in
from trainer.cli.ownership import hand_over
from trainer.cli.places import TYPED, hand_in_store, runs_folder
from trainer.environments.dotenv import read_block
from trainer.environments.setup import owner, require_environment, require_folder, require_images
from trainer.launch.watch import see, see_nothing
from trainer.runs.image_claim import WATCHED
from trainer.runs.resume import require_left, set_aside_what_was_seen
from trainer.runs.run import abandon, new_run
from trainer.settings.fields import PURPOSE

if TYPE_CHECKING:
    from trainer.cli.experiments import Place
    from trainer.environments.engine import Engine


_DIGESTS: Final = ("REPRISE_BUILD_ID", "REPRISE_IMAGE_CONFIG")


class Process(Protocol):
    """As much of a started program as is needed to wait for it."""

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it is over."""
        ...


def train_in_container(argv: list[str], place: Place, *, checkout: Path, begun: str | None = None) -> int:
    """Start the container, write into the run's folder which image it is, and end as it ends; `begun` has a folder already."""
    require_set_up(checkout)
    run, folder = (begun, runs_folder() / begun) if begun else new_run(runs_folder())
    bring(place, folder)
    hand_over(folder, checkout=checkout)
    try:
        return _watched(argv, run, folder, checkout=checkout)
    finally:
        abandon(folder)


def resume_in_container(argv: list[str], folder: Path, *, checkout: Path) -> int:
    """Have a run go on in the container, with the same words, and write which image that is."""
    require_set_up(checkout)
    require_left(folder)  # its container has the name that this one would have, and what was seen of it is needed
    set_aside_what_was_seen(folder)
    hand_over(folder, checkout=checkout)
    return _watched(argv, folder.name, folder, checkout=checkout)


def require_set_up(checkout: Path) -> None:
    """Refuse what compose would fail of, in words that do not say what to do."""
    if not (checkout / ".env").is_file():
        raise DotenvError(
            "training needs torch or the image, and this checkout is not set up for one",
            hint="scripts/train does what is missing",
        )
    require_current(checkout / ".env")
    values = read_block(checkout / ".env").values
    require_environment(values, root=checkout)
    hand_in_store(checkout / ".env")
    told = compose_values()
    if folder := told.get("REPRISE_STORE_FOLDER"):
        require_folder(Path(folder), who=owner(os.getuid(), os.getgid()), root=checkout)
    with closing(engine()) as host:
        require_images(told, engine=host)
        if told.get("COMPOSE_PROFILES") == "store":
            check_store_port(host, values, again=os.environ.get(TYPED) or "scripts/setup, then type it again")


def require_current(path: Path) -> None:
    """Refuse a `.env` that was edited by hand, or is another user's: compose would start a container that cannot write the run."""
    block, who = read_block(path), owner(os.getuid(), os.getgid())
    if block.edited:
        wrong = [
            f"; {name} is no digest: {told!r}"
            for name in _DIGESTS
            if (told := block.values.get(name)) and not is_digest(told)
        ]
        raise DotenvError(
            f"the managed block in .env was edited by hand{''.join(wrong)}",
            hint="scripts/setup writes it anew, and says what it replaces",
        )
    if block.exists and (uid := block.values.get("REPRISE_UID")) != str(who.uid):
        raise DotenvError(
            f".env is stale: its containers run as uid {uid}, this user's as {who.uid}", hint="scripts/setup"
        )


def _watched(argv: list[str], run: str, folder: Path, *, checkout: Path) -> int:
    container = f"reprise-{run}"
    given = settings_handed_in(os.environ)
    purpose = (
        [f"--env={PURPOSE}"] if PURPOSE in os.environ else []
    )  # not for a user to type: it is left out of the line
    options = ["--rm", "--name", container, "--env", f"{WATCHED}={run}", *purpose, *given]
    print("reprise:", shlex.join(["docker", "compose", "run", "--rm", *given, "train", *argv]), file=sys.stderr)
    try:
        process = subprocess.Popen(["docker", "compose", "run", *options, "train", *argv], cwd=checkout)
    except FileNotFoundError as fault:
        raise EngineAbsentError(
            "the command `docker` is not installed, and training needs it or torch",
            hint="scripts/train does what is missing",
        ) from fault
    given_up: list[int] = []

    def on_signal(number: int, _: object) -> None:
        if not hand_on(number, container, process):
            given_up.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    try:
        with closing(engine()) as host:
            witness(process, host, container, folder=folder)
    finally:
        code = process.wait()  # whatever went wrong here: the folder is the container's until it ends
    if given_up:  # compose may have made the container by then, and not begun it
        subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=False)
        return 128 + given_up[0]
    return code


def hand_on(number: int, container: str, process: subprocess.Popen[bytes]) -> bool:
    """Hand a signal on to the container, whose end is then waited for: without a terminal compose would end and leave it running.

    False where there is no container yet: compose gives up starting it. On a terminal of compose's own, Ctrl-C never comes here: it is
    a letter that the container's terminal makes a signal of.
    """
    words = ["docker", "kill", f"--signal={signal.Signals(number).name}", container]
    if subprocess.run(words, capture_output=True, check=False, start_new_session=True).returncode == 0:
        return True
    process.terminate()
    return False


def witness(process: Process, host: Engine, container: str, *, folder: Path) -> None:
    """Ask the engine until it knows the container, or the process is over. An engine that fails is said, and spoils no run."""
    try:
        while process.poll() is None and see(host, container, folder=folder) is None:
            _wait(process)
    except RepriseError as fault:
        print(f"reprise: nobody vouches for this run's image: {fault.message}", file=sys.stderr)
        with suppress(RepriseError):
            see_nothing(container, folder=folder, fault=fault.message)


def _wait(process: Process) -> None:
    try:
        process.wait(timeout=0.05)
    except subprocess.TimeoutExpired:
        return
