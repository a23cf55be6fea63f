"""`reprise setup`: write the managed block of `.env`; with `--build`, build what is missing first. Host only."""

from __future__ import annotations

import json
import os

from trainer.actions import setup
from trainer.cli.arguments import Arguments
from trainer.cli.checkout import DOTENV, ROOT, engine, made, refresh, say
from trainer.environment import load_environment, load_pin
from trainer.host.dotenv import read_block, shadowed

_SECRET = "AWS_SECRET_ACCESS_KEY"


def main(argv: list[str]) -> int:
    """Set this checkout up for this machine."""
    parser = Arguments("reprise setup", "Write the managed block of .env: user, images, store, CA bundle, compose files.")
    parser.add_argument("--environment", metavar="NAME", help="what `train` runs in (cuda where the NVIDIA runtime is found, else cpu)")
    parser.add_argument("--store", metavar="s3://BUCKET[/PREFIX]", help="a store of your own; the local one is then off")
    parser.add_argument("--endpoint", metavar="URL", help="the address of that store's server")
    parser.add_argument("--build", action="store_true", help="build the images that are missing")
    parser.add_argument("--json", action="store_true", help="print the values")
    asked = parser.parse_args(argv)

    docker = engine()
    if asked.environment:
        load_environment(asked.environment, root=ROOT)
    before = read_block(DOTENV).values
    choice = setup.Choice(environment=asked.environment, store=asked.store, endpoint=asked.endpoint)
    name = setup.environment_name(choice, before, nvidia=docker.facts().nvidia)
    if asked.build:
        _build(name, local_store=not asked.store, docker=docker)
    values = refresh(docker, choice)
    if "REPRISE_STORE_PORT" in values and not docker.serves(values["COMPOSE_PROJECT_NAME"], "store"):
        setup.check_port(int(values["REPRISE_STORE_PORT"]))
    for shadow in shadowed(DOTENV):
        say(f".env says {shadow} outside of the managed block too: remove one of the two")
    for missing in (key for key in ("REPRISE_IMAGE", "REPRISE_STORE_IMAGE") if key not in values):
        say(f"{missing} is not known yet: scripts/setup --build")
    shown = {key: "***" if key == _SECRET else value for key, value in values.items()}
    print(json.dumps(shown) if asked.json else "\n".join(f"{key}={value if len(value) < 140 else value[:137] + '...'}" for key, value in shown.items()))
    return 0


def _build(name: str, *, local_store: bool, docker: object) -> None:
    """What compose runs: the environment, unless it is pinned, and the store's image, unless another store is used."""
    del docker
    if load_pin(name, root=ROOT) is None:
        made(name, stage="environment", docker=engine())
    if local_store and os.environ.get("REPRISE_NO_STORE") is None:
        made("store", stage="environment", docker=engine())
