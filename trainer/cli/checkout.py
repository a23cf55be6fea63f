"""What the host's commands share at the edge: the checkout, its engine, its `.env`, and what the machine lends a build."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.errors import ImageMissingError, PortTakenError, UsageError
from trainer.cli.places import TYPED
from trainer.environments import pin as pins
from trainer.environments import setup
from trainer.environments.build import BuildMachine, BuiltImage, build, find_built_image, plan
from trainer.environments.declaration import load_environment, load_pin
from trainer.environments.dotenv import all_values, read_block, user_values, write_block
from trainer.environments.engine import compose
from trainer.environments.engine.base_image import resolve_base
from trainer.environments.engine.docker import DockerEngine
from trainer.environments.package_indexes import read_indexes
from trainer.stores.address import folder_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainer.environments.build import Stage
    from trainer.environments.engine import Engine, LocalStore

ROOT: Final = Path(__file__).resolve().parents[2]
DOTENV: Final = ROOT / ".env"
_BUNDLES: Final = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SYSTEM_BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def engine() -> DockerEngine:
    """The engine of this machine."""
    return DockerEngine(cache=ROOT / ".reprise" / "images")


def say(line: str) -> None:
    """Tell a person, beside the results."""
    print(line, file=sys.stderr)


def ca_bundle() -> Path | None:
    """The machine's CA bundle: with a proxy that inspects TLS, its own certificate is in there."""
    named = [os.environ[name] for name in _BUNDLES if os.environ.get(name)]
    return next((path for path in map(Path, (*named, *_SYSTEM_BUNDLES)) if path.is_file()), None)


def made(name: str, *, stage: Stage, docker: Engine, fresh: bool = False) -> BuiltImage:
    """The image of the checkout's inputs: found, or built now."""
    if not fresh and (found := find_built_image(name, stage=stage, engine=docker, root=ROOT)):
        return found
    docker.facts()
    base = resolve_base(load_environment(name, root=ROOT).base, root=ROOT)
    indexes = read_indexes(os.environ, home=Path.home())
    proxies = {key: os.environ[key] for key in _PROXIES if os.environ.get(key)}
    machine = BuildMachine(base=base, indexes=indexes, ca=ca_bundle(), proxies=proxies)
    return build(plan(name, stage=stage, base=base, root=ROOT), engine=docker, machine=machine, root=ROOT, fresh=fresh)


def fetch_pinned(name: str, *, docker: Engine) -> None:
    """Fetch an environment's pinned image if the engine lacks it: with REPRISE_YES or the user's answer. Raises `ImageMissingError`."""
    pinned = load_pin(name, root=ROOT)
    if pinned is None or docker.image(pinned.reference):
        return
    if not _agreed(f"Environment {name!r} is pinned to {pinned.reference}. Fetch that image? [Y/n] "):
        said = f"environment {name!r} is pinned to {pinned.reference}, which is not on this machine"
        again = (os.environ.get(TYPED) or "scripts/train").replace("scripts/train", "scripts/train --yes", 1)
        raise ImageMissingError(said, hint=f"{again} fetches it; or: scripts/reprise image restore {name}")
    say(f"fetching {pinned.reference}, to which environment {name!r} is pinned")
    pins.restore(name, engine=docker, root=ROOT)


def _agreed(question: str) -> bool:
    """Whether the user agrees; without a terminal only REPRISE_YES does."""
    if os.environ.get("REPRISE_YES"):
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(question, end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    return bool(answer) and answer.strip().lower() in {"", "y", "yes"}


def publish_samples(values: Mapping[str, str], *, docker: Engine) -> None:
    """See to it that the local store has the sample datasets; another store's are its owner's business."""
    if values.get("COMPOSE_PROFILES") == "store":
        store = made("store", stage="environment", docker=docker)
        environ = {**os.environ, **values, "REPRISE_STORE_IMAGE": store.reference}
        compose.run("samples", ["data", "publish-samples"], root=ROOT, environ=environ)


def block(docker: Engine, choice: setup.Choice, before: Mapping[str, str]) -> dict[str, str]:
    """What the managed block should say now."""
    nvidia = docker.facts().nvidia
    if not choice.environment:
        setup.require_environment(before, root=ROOT)
    environment = setup.environment_name(choice, before, nvidia=nvidia)
    load_environment(environment, root=ROOT)
    who = setup.owner(os.getuid(), os.getgid())
    port, joined = store_port(before), joined_store(docker, choice, before)
    values = setup.machine_values(ROOT, who=who, nvidia=nvidia and environment != "cpu", ca=ca_bundle())
    values |= {"REPRISE_ENVIRONMENT": environment}
    values |= setup.store_values(choice, before, port=port, joined=joined)
    if folder := values.get("REPRISE_STORE_FOLDER"):
        setup.require_folder(Path(folder), who=who, root=ROOT)
    return values | setup.image_values(environment, engine=docker, root=ROOT)


def joined_store(docker: Engine, choice: setup.Choice, before: Mapping[str, str]) -> LocalStore | None:
    """The local store of another checkout, if that is the one that this checkout uses."""
    if not setup.is_local(choice, before):
        return None
    project = setup.project_name(ROOT)
    return setup.store_to_join(choice, before, port=store_port(before), project=project, engine=docker)


def compose_values() -> dict[str, str]:
    """What compose reads: `.env`, of a name that it has twice the last, then the environment, which wins."""
    return all_values(DOTENV) | {
        name: value for name, value in os.environ.items() if name.startswith(("REPRISE_", "COMPOSE_"))
    }


def own_store_line(dotenv: Path = DOTENV) -> str | None:
    """The store that a line of `.env` outside of the managed block names. Raises `UsageError` for a relative path."""
    own = user_values(dotenv).get("REPRISE_STORE") or None
    if own and "://" not in own and not own.startswith("/"):
        said = f".env says REPRISE_STORE={own}; expected an address or a whole path, which compose can hand on"
        raise UsageError(said, hint=f"REPRISE_STORE={folder_of(str(dotenv.parent / Path(own).expanduser()))}")
    return own


def store_port(before: Mapping[str, str], *, dotenv: Path = DOTENV) -> int:
    """The local store's port on this machine: as the environment says, a line of `.env` outside of the block, the block, the default."""
    told = (os.environ, user_values(dotenv), before, {"REPRISE_STORE_PORT": str(setup.STORE_PORT)})
    return _port(next(values["REPRISE_STORE_PORT"] for values in told if values.get("REPRISE_STORE_PORT")))


def check_store_port(docker: Engine, values: Mapping[str, str], *, again: str) -> None:
    """Refuse a port or a volume that another server has, unless it is the local store of this checkout. Raises `PortTakenError`."""
    port, project = store_port(values), values.get("COMPOSE_PROJECT_NAME", "")
    unchanged = str(port) == values.get("REPRISE_STORE_PORT", str(setup.STORE_PORT))
    own = setup.own_volume(values, project)
    for other in (store for store in docker.local_stores() if store.project != project):
        joined = "scripts/setup makes this checkout use that store"
        if other.volume == own:
            said = f"the local store of another checkout ({other.project}) serves this checkout's volume on port {other.port}"
            raise PortTakenError(said, hint=joined)
        if other.port == port:
            said = f"port {port} on 127.0.0.1 is the local store of another checkout ({other.project})"
            raise PortTakenError(said, hint=f"{joined}; or: REPRISE_STORE_PORT={port + 10} {again}")
    if not (unchanged and project and docker.serves(project, "store")):
        setup.check_port(port, again=again)


def refresh(docker: Engine, choice: setup.Choice | None = None) -> dict[str, str]:
    """Write the managed block again from what is true now; report and overwrite what was changed in it by hand."""
    before = read_block(DOTENV)
    values = block(docker, choice or setup.Choice(store=own_store_line()), before.values)
    differing = sorted(n for n in before.values.keys() | values.keys() if before.values.get(n) != values.get(n))
    if before.edited:
        say(
            "the managed block in .env was edited by hand; it is written again (write your own lines outside of the block):"
        )
        for name in differing:
            say(f"  {name}: {_told(name, before.values)} becomes {_told(name, values)}")
    setup.prepare_folders(ROOT, setup.owner(os.getuid(), os.getgid()))
    changed = f"changed {', '.join(differing)}"
    if write_block(DOTENV, values):
        say(f".env: {changed if before.exists and differing else 'written'}")
    return values


def _told(name: str, values: Mapping[str, str]) -> str:
    return "a secret" if "SECRET" in name and name in values else (values.get(name) or "nothing")


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise UsageError(f"REPRISE_STORE_PORT is {text!r}; expected a port number", hint=f"such as {setup.STORE_PORT}")
    return int(text)
