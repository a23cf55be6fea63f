"""`reprise setup`: write the managed block of `.env`; with `--build`, build what is missing first. Host only."""

from __future__ import annotations

import json
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
    fetch_pinned,
    joined_store,
    made,
    own_store_line,
    refresh,
    say,
)
from trainer.cli.places import TYPED
from trainer.environments import setup
from trainer.environments.build import find_built_image
from trainer.environments.declaration import load_environment, load_pin
from trainer.environments.dotenv import conflicting_names, read_block
from trainer.stores.address import folder_of

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from trainer.environments.engine import Engine

_HIDDEN: Final = "REPRISE_STORE_SECRET"
_WIDTH: Final = 140
_BUILD: Final = "scripts/setup --build"


def main(argv: list[str]) -> int:
    """Set this checkout up for this machine."""
    parser = Arguments(
        "reprise setup", "Write the managed block of .env: user, images, store, CA bundle, compose files."
    )
    parser.add_argument(
        "--environment", metavar="NAME", help="environment of `train` (default: cuda with the NVIDIA runtime, else cpu)"
    )
    parser.add_argument(
        "--store",
        metavar="ADDRESS",
        help="store to use instead of the local store: s3://BUCKET[/PREFIX] or a folder (default: REPRISE_STORE)",
    )
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="server of the store; http://127.0.0.1:PORT for the local store of another checkout",
    )
    parser.add_argument("--build", action="store_true", help="build missing images")
    parser.add_argument(
        "--development", action="store_true", help="with --build: also build the image of the dev container"
    )
    parser.add_argument("--verbose", action="store_true", help="print every value of the block")
    parser.add_argument("--json", action="store_true", help="print the values as JSON")
    asked = parser.parse_args(argv)

    docker = engine()
    before = read_block(DOTENV).values
    if asked.environment:
        load_environment(asked.environment, root=ROOT)
    else:
        setup.require_environment(before, root=ROOT)
    choice = chosen(asked, os.environ, own=own_store_line())
    name = setup.environment_name(choice, before, nvidia=docker.facts().nvidia)
    require_store(choice, before)  # before what takes minutes
    joined = joined_store(docker, choice, before)
    local_store = setup.is_local(choice, before) and joined is None
    if joined:
        say(
            f"the local store of another checkout ({joined.project}) is used: {setup.LOCAL_STORE} on port {joined.port}"
        )
    if local_store:
        check_store_port(docker, before, again=os.environ.get(TYPED) or shlex.join(["scripts/setup", *argv]))
    if asked.build:
        _build(name, local_store=local_store, docker=docker)
        if asked.development:
            made(name, stage="development", docker=docker)
    values = refresh(docker, choice)
    for shadow in conflicting_names(DOTENV):
        say(f".env says {shadow} outside of the managed block too: remove one of the two")
    shown = values | {_HIDDEN: "***"} if _HIDDEN in values else values
    if asked.json:
        print(json.dumps(shown))
        return 0
    print(
        "\n".join(
            page(values, built=find_built_image("store", stage="environment", engine=docker, root=ROOT) is not None)
        )
    )
    if asked.verbose:
        print("\n".join(f"{key}={_short(value)}" for key, value in shown.items()))
    return 0


def page(values: Mapping[str, str], *, built: bool) -> list[str]:
    """What this checkout runs in, and where its store is; `built`: the local store's image is this lock's."""
    image = values.get("REPRISE_IMAGE") or f"not built yet: {_BUILD}"
    server = "" if built else f"; its image is of an earlier lock: {_BUILD}"
    where = f"at {values['AWS_ENDPOINT_URL_S3']}" if "AWS_ENDPOINT_URL_S3" in values else "(a folder)"
    if values["COMPOSE_PROFILES"] != "store":
        server = ""
    elif "REPRISE_STORE_IMAGE" not in values:
        server = f"; its image is not built yet: {_BUILD}"
    return [
        f"environment  {values['REPRISE_ENVIRONMENT']}",
        f"image        {image}",
        f"store        {values['REPRISE_STORE']} {where}{server}",
    ]


def chosen(asked: Namespace, environ: Mapping[str, str], *, own: str | None) -> setup.Choice:
    """What the user chose: in words, in the environment, or, of the store, by a line `own` of `.env`. Raises `UsageError`."""
    store = asked.store or environ.get("REPRISE_STORE") or own
    endpoint = asked.endpoint
    if own and store and _named(store) != _named(own):
        where = "--store" if asked.store else "REPRISE_STORE in the environment"
        said = f"{where} says {store}; a line of .env outside of the managed block says REPRISE_STORE={own}"
        raise UsageError(said, hint="remove that line, then type the command again; or edit it, then: scripts/setup")
    if not asked.store and environ.get("REPRISE_STORE"):
        say(f"the store is {store}, as REPRISE_STORE in the environment says")
        if str(store).startswith("s3://"):
            endpoint = endpoint or environ.get("REPRISE_STORE_ENDPOINT") or environ.get("AWS_ENDPOINT_URL_S3")
    return setup.Choice(environment=asked.environment, store=store, endpoint=endpoint)


def _named(address: str) -> str:
    """One spelling of an address."""
    return str(folder_of(address) or address.rstrip("/"))


def require_store(choice: setup.Choice, before: Mapping[str, str]) -> None:
    """Refuse a store that containers cannot use. Raises `UsageError`, `StoreMissingError`, `NotWritableError`."""
    values = setup.store_values(choice, before, port=setup.STORE_PORT)
    if folder := values.get("REPRISE_STORE_FOLDER"):
        setup.require_folder(Path(folder), who=setup.owner(os.getuid(), os.getgid()), root=ROOT)


def _build(name: str, *, local_store: bool, docker: Engine) -> None:
    """What compose runs: the environment, fetched if it is pinned, and the store's image, unless another store is used."""
    fetch_pinned(name, docker=docker)
    if load_pin(name, root=ROOT) is None:
        made(name, stage="environment", docker=docker)
    if local_store:
        made("store", stage="environment", docker=docker)


def _short(value: str) -> str:
    return value if len(value) <= _WIDTH else f"{value[:_WIDTH]}..."
