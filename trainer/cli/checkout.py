"""Functions for commands that run on the host: the checkout's Docker engine, images, `.env` and local store."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainer.base.errors import EngineError, ImageMissingError, PortTakenError, UsageError
from trainer.cli.configuration import TYPED_COMMAND, export_store_variables
from trainer.cli.output import print_progress
from trainer.environments import pin as pins
from trainer.environments import setup, store_setup
from trainer.environments.build import BuildMachine, BuiltImage, build, find_built_image, plan, resolve_base
from trainer.environments.declaration import load_environment, load_pin
from trainer.environments.dotenv import all_values, read_block, user_values, write_block
from trainer.environments.engine import compose
from trainer.environments.package_indexes import read_indexes
from trainer.stores.address import folder_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainer.environments.build import Stage
    from trainer.environments.engine import Engine, LocalStore
    from trainer.environments.engine.docker import DockerEngine

ROOT: Final = Path(__file__).resolve().parents[2]
DOTENV: Final = ROOT / ".env"
_BUNDLES: Final = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SYSTEM_BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def engine() -> DockerEngine:
    """Return the Docker engine of this machine."""
    # imported late: docker takes a third of a short command's time
    from trainer.environments.engine.docker import DockerEngine

    return DockerEngine(cache=ROOT / ".reprise" / "images")


def ca_bundle() -> Path | None:
    """Return the machine's CA bundle, which holds the certificate of a proxy that inspects TLS."""
    paths = [os.environ[name] for name in _BUNDLES if os.environ.get(name)]
    return next((path for path in map(Path, (*paths, *_SYSTEM_BUNDLES)) if path.is_file()), None)


def ensure_image(name: str, *, stage: Stage, docker: Engine, fresh: bool = False, root: Path = ROOT) -> BuiltImage:
    """Return the image of the inputs in `root`, the checkout or a copy of it; build it if it does not exist or if `fresh`."""
    if not fresh and (built := find_built_image(name, stage=stage, engine=docker, root=root)):
        return built
    docker.facts()
    base = resolve_base(load_environment(name, root=root).base, root=ROOT)
    indexes = read_indexes(os.environ, home=Path.home())
    proxies = {key: os.environ[key] for key in _PROXIES if os.environ.get(key)}
    machine = BuildMachine(base=base, indexes=indexes, ca=ca_bundle(), proxies=proxies)
    return build(plan(name, stage=stage, base=base, root=root), engine=docker, machine=machine, root=root, fresh=fresh)


def fetch_pinned(name: str, *, docker: Engine) -> None:
    """Fetch an environment's pinned image if the engine lacks it and the user agrees. Raise `ImageMissingError` if the user does not."""
    pinned = load_pin(name, root=ROOT)
    if pinned is None or docker.image(pinned.reference):
        return
    if not _confirm(f"Environment {name!r} is pinned to {pinned.reference}. Fetch that image? [Y/n] "):
        message = f"environment {name!r} is pinned to {pinned.reference}, which is not on this machine"
        command = (os.environ.get(TYPED_COMMAND) or "scripts/train").replace("scripts/train", "scripts/train --yes", 1)
        raise ImageMissingError(message, hint=f"{command} fetches it; or: scripts/reprise image restore {name}")
    print_progress(f"fetching {pinned.reference}, the pinned image of environment {name!r}")
    pins.restore(name, engine=docker, root=ROOT)


def _confirm(question: str) -> bool:
    """Return true if REPRISE_YES is set; otherwise ask the user, or return false without a terminal."""
    if os.environ.get("REPRISE_YES"):
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(question, end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    return bool(answer) and answer.strip().lower() in {"", "y", "yes"}


def wake_store() -> None:
    """Start the local store if it is configured and not running; do nothing if the engine does not respond."""
    export_store_variables(DOTENV)
    values = compose_values()
    if values.get("COMPOSE_PROFILES") != "store":
        return
    with suppress(EngineError), closing(engine()) as docker:
        if not docker.serves(values["COMPOSE_PROJECT_NAME"], "store"):
            command = ["docker", "compose", "up", "--detach", "--wait", "--quiet-pull", "store"]
            compose.start(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait()


def publish_samples(values: Mapping[str, str], *, docker: Engine) -> None:
    """Publish the sample datasets to the local store; do nothing if another store is configured."""
    if values.get("COMPOSE_PROFILES") == "store":
        store = ensure_image("store", stage="environment", docker=docker)
        environ = {**os.environ, **values, "REPRISE_STORE_IMAGE": store.reference}
        compose.run("samples", ["data", "publish-samples"], root=ROOT, environ=environ)


def block(docker: Engine, choice: store_setup.Choice, before: Mapping[str, str]) -> dict[str, str]:
    """Return the current values of the managed block."""
    nvidia = docker.facts().nvidia
    if not choice.environment:
        setup.require_environment(before, root=ROOT)
    environment = setup.environment_name(choice, before, nvidia=nvidia)
    load_environment(environment, root=ROOT)
    user = setup.owner(os.getuid(), os.getgid())
    port, joined = store_port(before), joined_store(docker, choice, before)
    values = setup.machine_values(ROOT, user=user, nvidia=nvidia and environment != "cpu", ca=ca_bundle())
    values |= {"REPRISE_ENVIRONMENT": environment}
    values |= store_setup.store_values(choice, before, port=port, joined=joined)
    if folder := values.get("REPRISE_STORE_FOLDER"):
        store_setup.require_folder(Path(folder), user=user, root=ROOT)
    return values | setup.image_values(environment, engine=docker, root=ROOT)


def joined_store(docker: Engine, choice: store_setup.Choice, before: Mapping[str, str]) -> LocalStore | None:
    """Return the local store of another checkout if this checkout uses it."""
    if not store_setup.is_local(choice, before):
        return None
    project = setup.project_name(ROOT)
    return store_setup.store_to_join(choice, before, port=store_port(before), project=project, engine=docker)


def compose_values() -> dict[str, str]:
    """Return the values that compose uses: the values of `.env`, overridden by the environment."""
    return all_values(DOTENV) | {
        name: value for name, value in os.environ.items() if name.startswith(("REPRISE_", "COMPOSE_"))
    }


def own_store_line(dotenv: Path = DOTENV) -> str | None:
    """Return the store from a line in `.env` outside the managed block, or None. Raise `UsageError` for a relative path."""
    own = user_values(dotenv).get("REPRISE_STORE") or None
    if own and "://" not in own and not own.startswith("/"):
        message = f".env has REPRISE_STORE={own}; expected an address or an absolute path, which compose can use"
        raise UsageError(message, hint=f"REPRISE_STORE={folder_of(str(dotenv.parent / Path(own).expanduser()))}")
    return own


def store_port(before: Mapping[str, str], *, dotenv: Path = DOTENV) -> int:
    """Return the local store's port: from the environment, a line in `.env` outside the managed block, the block, or the default."""
    sources = (os.environ, user_values(dotenv), before, {"REPRISE_STORE_PORT": str(store_setup.STORE_PORT)})
    return _port(next(values["REPRISE_STORE_PORT"] for values in sources if values.get("REPRISE_STORE_PORT")))


def check_store_port(docker: Engine, values: Mapping[str, str], *, command: str) -> None:
    """Raise `PortTakenError` if a server other than this checkout's local store uses the port or the volume."""
    port, project = store_port(values), values.get("COMPOSE_PROJECT_NAME", "")
    unchanged = str(port) == values.get("REPRISE_STORE_PORT", str(store_setup.STORE_PORT))
    own = store_setup.own_volume(values, project)
    for other in (store for store in docker.local_stores() if store.project != project):
        hint = "scripts/setup makes this checkout use that store"
        if other.volume == own:
            message = f"the local store of another checkout ({other.project}) serves this checkout's volume on port {other.port}"
            raise PortTakenError(message, hint=hint)
        if other.port == port:
            message = f"port {port} on 127.0.0.1 is used by the local store of another checkout ({other.project})"
            raise PortTakenError(message, hint=f"{hint}; or: REPRISE_STORE_PORT={port + 10} {command}")
    if not (unchanged and project and docker.serves(project, "store")):
        store_setup.check_port(port, command=command)


def refresh_block(docker: Engine, choice: store_setup.Choice | None = None) -> dict[str, str]:
    """Write the managed block with its current values; report and overwrite manual changes."""
    before = read_block(DOTENV)
    values = block(docker, choice or store_setup.Choice(store=own_store_line()), before.values)
    differing = sorted(n for n in before.values.keys() | values.keys() if before.values.get(n) != values.get(n))
    if before.edited:
        print_progress(
            "the managed block of .env was edited by hand and is overwritten (your own lines belong outside of it):"
        )
        for name in differing:
            print_progress(f"  {name}: {_displayed(name, before.values)} becomes {_displayed(name, values)}")
    setup.prepare_folders(ROOT, setup.owner(os.getuid(), os.getgid()))
    changed = f"changed {', '.join(differing)}"
    if write_block(DOTENV, values):
        print_progress(f".env: {changed if before.exists and differing else 'written'}")
    return values


def _displayed(name: str, values: Mapping[str, str]) -> str:
    return "a secret" if "SECRET" in name and name in values else (values.get(name) or "nothing")


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise UsageError(
            f"REPRISE_STORE_PORT is {text!r}; expected a port number", hint=f"such as {store_setup.STORE_PORT}"
        )
    return int(text)
