"""`reprise setup`: writes the managed block of `.env`; with `--build`, builds missing images first. Runs on the host only."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.errors import UsageError
from trainer.cli.arguments import Arguments
from trainer.cli.checkout import (
    DOTENV,
    ROOT,
    check_store_port,
    engine,
    ensure_image,
    fetch_pinned,
    joined_store,
    own_store_line,
    refresh_block,
)
from trainer.cli.configuration import TYPED_COMMAND
from trainer.cli.output import print_progress, print_result
from trainer.environments import setup, store_setup
from trainer.environments.build import find_built_image
from trainer.environments.declaration import load_environment, load_pin
from trainer.environments.dotenv import conflicting_names, read_block
from trainer.stores.address import folder_of

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from trainer.environments.engine import Engine, LocalStore

_HIDDEN: Final = "REPRISE_STORE_SECRET"
_WIDTH: Final = 140
_BUILD: Final = "scripts/setup --build"


def main(argv: list[str]) -> int:
    """Set this checkout up for this machine."""
    parser = Arguments(
        "reprise setup",
        "Set up this checkout: write the managed block of .env (user, images, store, CA bundle, compose files).",
    )
    parser.add_argument(
        "--environment",
        metavar="NAME",
        help="the environment that `train` runs in (default: the environment in .env, else cuda if the NVIDIA runtime is found, else cpu)",
    )
    parser.add_argument(
        "--store",
        metavar="ADDRESS",
        help="use this store, s3://BUCKET[/PREFIX] or a folder, instead of the local store (default: REPRISE_STORE from the environment "
        "or .env)",
    )
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="URL of the store's server; http://127.0.0.1:PORT for the local store of another checkout",
    )
    parser.add_argument("--build", action="store_true", help="build missing images")
    parser.add_argument("--development", action="store_true", help="with --build, build the development image as well")
    parser.add_argument("--verbose", action="store_true", help="print every value that setup manages in .env")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    args = parser.parse_args(argv)
    if args.development and not args.build:
        raise UsageError("--development has no effect without --build", hint="add --build")

    docker = engine()
    previous = read_block(DOTENV).values
    if args.environment:
        load_environment(args.environment, root=ROOT)
    else:
        setup.require_environment(previous, root=ROOT)
    choice = choose_store(args, os.environ, own=own_store_line())
    name = setup.environment_name(choice, previous, nvidia=docker.facts().nvidia)
    require_store(choice, previous)  # before builds, which take minutes
    joined = joined_store(docker, choice, previous)
    local_store = store_setup.is_local(choice, previous) and joined is None
    if joined:
        require_port_of(joined, os.environ)
        print_progress(
            f"using the local store of another checkout ({joined.project}): {store_setup.LOCAL_STORE} on port {joined.port}"
        )
    if local_store:
        check_store_port(
            docker, previous, command=os.environ.get(TYPED_COMMAND) or shlex.join(["scripts/setup", *argv])
        )
    if args.build:
        _build(name, local_store=local_store, docker=docker)
        if args.development:
            ensure_image(name, stage="development", docker=docker)
    values = refresh_block(docker, choice)
    for shadow in conflicting_names(DOTENV):
        print_progress(f".env also sets {shadow} outside the managed block: remove that line")
    displayed = values | {_HIDDEN: "***"} if _HIDDEN in values else values
    built = find_built_image("store", stage="environment", engine=docker, root=ROOT) is not None
    values_listed = [f"{key}={_truncated(value)}" for key, value in displayed.items()] if args.verbose else []
    print_result(displayed, [*page(values, built=built), *values_listed], as_json=args.json)
    return 0


def require_port_of(joined: LocalStore, environ: Mapping[str, str]) -> None:
    """Raise `UsageError` if REPRISE_STORE_PORT is not the port of another checkout's local store, which this checkout uses."""
    port = environ.get("REPRISE_STORE_PORT") or str(joined.port)
    if port == str(joined.port):
        return
    other = f"the local store of another checkout ({joined.project}) on port {joined.port}"
    hint = f"unset REPRISE_STORE_PORT; or, for a store of its own: remove .env, then REPRISE_STORE_PORT={port} scripts/setup"
    raise UsageError(f"REPRISE_STORE_PORT is {port}, but this checkout uses {other}", hint=hint)


def page(values: Mapping[str, str], *, built: bool) -> list[str]:
    """Return the lines about environment, image and store; `built` states whether the local store has an image of the current lock."""
    image = values.get("REPRISE_IMAGE") or f"not built yet: {_BUILD}"
    server = "" if built else f"; its image was built from an earlier lock: {_BUILD}"
    location = f"at {values['AWS_ENDPOINT_URL_S3']}" if "AWS_ENDPOINT_URL_S3" in values else "(a folder)"
    if values["COMPOSE_PROFILES"] != "store":
        server = ""
    elif "REPRISE_STORE_IMAGE" not in values:
        server = f"; its image is not built yet: {_BUILD}"
    return [
        f"environment  {values['REPRISE_ENVIRONMENT']}",
        f"image        {image}",
        f"store        {values['REPRISE_STORE']} {location}{server}",
    ]


def choose_store(args: Namespace, environ: Mapping[str, str], *, own: str | None) -> store_setup.Choice:
    """Return the user's choice from the options and the environment; `own` is the store from a line in `.env` outside the managed block.

    Raise `UsageError` if the options or the environment name another store than `own`.
    """
    store = args.store or environ.get("REPRISE_STORE") or own
    endpoint = args.endpoint
    if own and store and _normalized(store) != _normalized(own):
        source = "--store" if args.store else "REPRISE_STORE in the environment"
        raise UsageError(
            f"{source} is {store}, but a line in .env outside the managed block is REPRISE_STORE={own}",
            hint="remove that line and repeat the command; or edit the line, then: scripts/setup",
        )
    if not args.store and environ.get("REPRISE_STORE"):
        print_progress(f"the store is {store}, from REPRISE_STORE in the environment")
        if str(store).startswith("s3://"):
            endpoint = endpoint or environ.get("REPRISE_STORE_ENDPOINT") or environ.get("AWS_ENDPOINT_URL_S3")
    return store_setup.Choice(environment=args.environment, store=store, endpoint=endpoint)


def _normalized(address: str) -> str:
    return str(folder_of(address) or address.rstrip("/"))


def require_store(choice: store_setup.Choice, before: Mapping[str, str]) -> None:
    """Raise `UsageError`, `StoreMissingError` or `NotWritableError` for a store that containers cannot use."""
    values = store_setup.store_values(choice, before, port=store_setup.STORE_PORT)
    if folder := values.get("REPRISE_STORE_FOLDER"):
        store_setup.require_folder(Path(folder), user=setup.owner(os.getuid(), os.getgid()), root=ROOT)


def _build(name: str, *, local_store: bool, docker: Engine) -> None:
    """Build the images that Docker Compose starts: the environment's, which is fetched if it is pinned, and the local store's."""
    fetch_pinned(name, docker=docker)
    if load_pin(name, root=ROOT) is None:
        ensure_image(name, stage="environment", docker=docker)
    if local_store:
        ensure_image("store", stage="environment", docker=docker)


def _truncated(value: str) -> str:
    return value if len(value) <= _WIDTH else f"{value[:_WIDTH]}..."
