"""`reprise setup`: write the managed block of `.env`; with `--build`, build what is missing first. Host only."""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING, Final

from trainer.actions import setup
from trainer.actions.build_image import current
from trainer.cli.arguments import Arguments
from trainer.cli.checkout import DOTENV, ROOT, check_store_port, engine, made, refresh, say
from trainer.cli.places import TYPED
from trainer.environment import load_environment, load_pin
from trainer.host.dotenv import read_block, shadowed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainer.engine import Engine

_HIDDEN: Final = "AWS_SECRET_ACCESS_KEY"
_WIDTH: Final = 140
_BUILD: Final = "scripts/setup --build"


def main(argv: list[str]) -> int:
    """Set this checkout up for this machine."""
    parser = Arguments(
        "reprise setup", "Write the managed block of .env: user, images, store, CA bundle, compose files."
    )
    parser.add_argument(
        "--environment", metavar="NAME", help="what `train` runs in (cuda where the NVIDIA runtime is found, else cpu)"
    )
    parser.add_argument(
        "--store", metavar="s3://BUCKET[/PREFIX]", help="a store of your own; the local one is then off"
    )
    parser.add_argument("--endpoint", metavar="URL", help="the address of that store's server")
    parser.add_argument("--build", action="store_true", help="build the images that are missing")
    parser.add_argument("--development", action="store_true", help="with --build: what an editor opens, too")
    parser.add_argument("--verbose", action="store_true", help="print every value of the block")
    parser.add_argument("--json", action="store_true", help="print the values as a document")
    asked = parser.parse_args(argv)

    docker = engine()
    if asked.environment:
        load_environment(asked.environment, root=ROOT)
    before = read_block(DOTENV).values
    choice = setup.Choice(environment=asked.environment, store=asked.store, endpoint=asked.endpoint)
    name = setup.environment_name(choice, before, nvidia=docker.facts().nvidia)
    local_store = _stays_local(asked.store, before)
    if local_store:  # before what takes minutes
        check_store_port(docker, before, again=os.environ.get(TYPED) or shlex.join(["scripts/setup", *argv]))
    if asked.build:
        _build(name, local_store=local_store, docker=docker)
        if asked.development:
            made(name, stage="development", docker=docker)
    values = refresh(docker, choice)
    for shadow in shadowed(DOTENV):
        say(f".env says {shadow} outside of the managed block too: remove one of the two")
    shown = values | {_HIDDEN: "***"} if _HIDDEN in values else values
    if asked.json:
        print(json.dumps(shown))
        return 0
    print("\n".join(page(values, built=current("store", stage="environment", engine=docker, root=ROOT) is not None)))
    if asked.verbose:
        print("\n".join(f"{key}={_short(value)}" for key, value in shown.items()))
    return 0


def page(values: Mapping[str, str], *, built: bool) -> list[str]:
    """What this checkout runs in, and where its store is; `built`: the local store's image is this lock's."""
    image = values.get("REPRISE_IMAGE") or f"not built yet: {_BUILD}"
    server = "" if built else f"; its image is of an earlier lock: {_BUILD}"
    if values["COMPOSE_PROFILES"] != "store":
        server = ""
    elif "REPRISE_STORE_IMAGE" not in values:
        server = f"; its image is not built yet: {_BUILD}"
    return [
        f"environment  {values['REPRISE_ENVIRONMENT']}",
        f"image        {image}",
        f"store        {values['REPRISE_STORE']} at {values['AWS_ENDPOINT_URL_S3']}{server}",
    ]


def _build(name: str, *, local_store: bool, docker: Engine) -> None:
    """What compose runs: the environment, unless it is pinned, and the store's image, unless another store is used."""
    if load_pin(name, root=ROOT) is None:
        made(name, stage="environment", docker=docker)
    if local_store:
        made("store", stage="environment", docker=docker)


def _short(value: str) -> str:
    return value if len(value) <= _WIDTH else f"{value[:_WIDTH]}..."


def _stays_local(chosen: str | None, before: Mapping[str, str]) -> bool:
    return (chosen or before.get("REPRISE_STORE") or setup.LOCAL_STORE) == setup.LOCAL_STORE
