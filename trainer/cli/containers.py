"""Running commands in containers of the environment's image, on a host without torch.

The launcher inspects the container of a training run from outside, so the record can state that its image is verified.
"""

from __future__ import annotations

import os
import shlex
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.digest import is_digest
from trainer.base.errors import DotenvError
from trainer.cli.checkout import DOTENV, check_store_port, compose_values, engine
from trainer.cli.configuration import (
    CHECKOUT,
    TYPED_COMMAND,
    export_store_variables,
    give_to_container_user,
    runs_folder,
)
from trainer.cli.experiments import copy_into_run
from trainer.cli.output import print_notice
from trainer.cli.train.command_line import require_captured
from trainer.environments.dotenv import read_block, user_values
from trainer.environments.engine.compose import run_command, start, volume
from trainer.environments.setup import owner, require_environment, require_images, require_runs
from trainer.environments.store_setup import require_folder
from trainer.launch.container import ContainerLauncher, NamedContainer
from trainer.launch.contract import CommandRequest, wait_forwarding_signals
from trainer.runs.resume import archive_observed_image, require_not_running
from trainer.runs.run import abandon, new_run
from trainer.settings.fields import PURPOSE
from trainer.settings.sources import of_environment
from trainer.settings.variables import ENVIRONMENT_PREFIX, require_known_lines
from trainer.source.capture import capture, place_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.cli.experiments import ExperimentFile
    from trainer.environments.engine import Engine

_PACKAGE: Final = "/package"
_TOKEN: Final = "/run/token"  # noqa: S105 - a path, not a token
_DIGESTS: Final = ("REPRISE_BUILD_ID", "REPRISE_IMAGE_CONFIG")


def container_launcher(*options: str, host: Engine | None = None) -> ContainerLauncher:
    """Return the launcher of containers of this checkout's image; `options` are passed to `docker compose run`."""
    return ContainerLauncher(checkout=CHECKOUT, engine=host or engine(), report=print_notice, options=options)


def run_in_image(arguments: Sequence[str], *options: str) -> int:
    """Run `reprise` with `arguments` in a container and return its exit status; `options` are passed to `docker compose run`.

    Raise the errors of `require_set_up`.
    """
    require_set_up(f"`reprise {arguments[0]}`")
    launcher, request = (
        container_launcher(*options),
        CommandRequest(words=arguments, inherited=setting_variables(os.environ)),
    )
    print_notice(shlex.join(launcher.command(request)))
    return launcher.start(request).output()[0]


def serve_in_container(package: Path, words: Sequence[str], *, host: str, port: int, token: Path | None) -> int:
    """Serve a package in a container that gets only the package and the token file; return the container's exit status.

    `words` are further options of `reprise serve`. The port is published on the address `host`. Raise the errors of `require_set_up`.
    """
    require_set_up("`reprise serve`", needs_store=False)
    name = f"reprise-serve-{port}-{os.getpid()}"
    options = [f"--name={name}", f"--publish={f'[{host}]' if ':' in host else host}:{port}:{port}"]
    inner = ["serve", _PACKAGE, *words, "--host=0.0.0.0", f"--port={port}"]
    if token is not None:
        source, target = volume(token.resolve(), f"{_TOKEN}:ro")
        options, inner = [*options, source, target], [*inner, f"--token-file={_TOKEN}"]
    command = run_command(inner, service="serve", options=options)
    variables = {"REPRISE_PACKAGE": os.fspath(package.resolve()), "REPRISE_SERVE_PORT": str(port)}
    print_notice(shlex.join([*(f"{key}={value}" for key, value in variables.items()), *command]))
    process = start(command, cwd=CHECKOUT, env={**os.environ, **variables})
    return wait_forwarding_signals(NamedContainer(process, name=name))


def train_in_container(argv: list[str], experiment: ExperimentFile, *, placed: str | None = None) -> int:
    """Train in a container and return its exit status; `placed` is the ID of a run whose folder and source already exist."""
    require_set_up("training")
    folder = runs_folder() / placed if placed else new_run(runs_folder())[1]
    copy_unmounted_files(experiment, folder)
    give_to_container_user(folder, checkout=CHECKOUT)
    try:
        return _train(argv, folder)
    finally:
        abandon(folder)


def copy_unmounted_files(experiment: ExperimentFile, folder: Path) -> None:
    """Copy an experiment from outside the checkout into the run's folder, for the container: its file, or the source with its project."""
    if experiment.project is None:
        copy_into_run(experiment, folder)
        return
    bundle = capture(CHECKOUT, extra=experiment.extra, runs=runs_folder())
    require_captured(experiment, bundle)
    place_source(bundle, folder)


def resume_in_container(argv: list[str], folder: Path) -> int:
    """Resume a run in a container and return its exit status."""
    require_set_up("training")
    require_not_running(folder)  # a container of the interrupted attempt has the same name
    archive_observed_image(folder)
    give_to_container_user(folder, checkout=CHECKOUT)
    return _train(argv, folder)


def _train(argv: list[str], folder: Path) -> int:
    request = CommandRequest(words=argv, inherited=setting_variables(os.environ))
    hidden = [PURPOSE] if PURPOSE in os.environ else []  # not for users to type: the printed command omits it
    with closing(engine()) as host:
        launcher = container_launcher(host=host)
        print_notice(shlex.join(launcher.command(request)))
        request = replace(request, run=folder, inherited=[*hidden, *request.inherited])
        return wait_forwarding_signals(launcher.start(request))


def setting_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the names of the environment variables with settings, which a container gets. Raise `SettingError` for a misspelled prefix.

    >>> setting_variables({"REPRISE_SETTING_SEED": "1", "REPRISE_STORE": "s3://b"})
    ['REPRISE_SETTING_SEED']
    """
    of_environment(environ)
    return sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX))


def require_set_up(purpose: str, *, needs_store: bool = True) -> None:
    """Raise an error if compose would fail in this checkout or on this machine: `DotenvError`, `ImageMissingError` and others."""
    if not DOTENV.is_file():
        message = f"{purpose} needs torch or an image, but this checkout is not set up to use an image"
        raise DotenvError(message, hint="scripts/train sets up the checkout")
    require_current(DOTENV)
    values = read_block(DOTENV).values
    require_environment(values, root=CHECKOUT)
    export_store_variables(DOTENV)
    if os.environ.get("REPRISE_RUNS") and runs_folder() != CHECKOUT / "runs":
        require_runs(runs_folder(), user=owner(os.getuid(), os.getgid()))
    values_of_compose = compose_values()
    if needs_store and (folder := values_of_compose.get("REPRISE_STORE_FOLDER")):
        require_folder(Path(folder), user=owner(os.getuid(), os.getgid()), root=CHECKOUT)
    with closing(engine()) as host:
        require_images(values_of_compose, engine=host)
        if needs_store and values_of_compose.get("COMPOSE_PROFILES") == "store":
            check_store_port(
                host, values, command=os.environ.get(TYPED_COMMAND) or "scripts/setup, then repeat the command"
            )


def require_current(path: Path) -> None:
    """Raise `DotenvError` if `.env` has a line that nothing reads, or a managed block that was edited by hand or is another user's."""
    require_known_lines(user_values(path))
    block, user = read_block(path), owner(os.getuid(), os.getgid())
    if block.edited:
        invalid = [
            f"; {name} is not a digest: {value!r}"
            for name in _DIGESTS
            if (value := block.values.get(name)) and not is_digest(value)
        ]
        raise DotenvError(
            f"the managed block in .env was edited by hand{''.join(invalid)}",
            hint="scripts/setup rewrites the block and lists the values that it replaces",
        )
    if block.exists and (uid := block.values.get("REPRISE_UID")) != str(user.uid):
        raise DotenvError(
            f".env is stale: its containers run as uid {uid}; this user is {user.uid}", hint="scripts/setup"
        )
