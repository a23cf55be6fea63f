"""`reprise image`: build, pin, unpin, restore, list, show and smoke-test images. Host only."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.base.errors import ImageMissingError
from trainer.cli.arguments import Arguments
from trainer.cli.checkout import DOTENV, ROOT, engine, fetch_pinned, made, publish_samples, refresh, say
from trainer.environments import pin as pins
from trainer.environments.build import STAGES, find_built_image
from trainer.environments.declaration import environment_names, load_environment, load_pin
from trainer.environments.dotenv import read_block
from trainer.environments.engine import compose
from trainer.environments.setup import single_run_values
from trainer.launch.smoke_test import smoke_test

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from trainer.environments.build import BuiltImage


def main(argv: list[str]) -> int:
    """Run one verb."""
    asked = _parser().parse_args(argv)
    verb = {
        "build": _build,
        "pin": _pin,
        "unpin": _unpin,
        "restore": _restore,
        "ls": _list,
        "show": _show,
        "smoke": _smoke,
    }[asked.verb]
    return verb(asked)


def _parser() -> Arguments:
    parser = Arguments("reprise image", "Build, pin, restore, list, show and smoke-test images.")
    verbs = parser.commands(dest="verb")
    for name, summary in {
        "build": "build an environment's image, unless an image of the same inputs exists",
        "pin": "push an image and write a pin to commit: the environment is this image",
        "unpin": "remove a pin",
        "restore": "pull the pinned image",
        "show": "show digests, layers and size of an environment's image",
        "smoke": "train ten steps twice in the image and compare the weights",
    }.items():
        verb = verbs.add_parser(name, help=summary)
        verb.add_argument("name", metavar="ENVIRONMENT", help="a file of environments/, without .toml")
        verb.add_argument("--json", action="store_true", help="print JSON")
        if name in {"build", "show"}:
            verb.add_argument(
                "--stage", choices=STAGES, default="environment", help="how much of docker/Dockerfile (%(default)s)"
            )
        if name == "build":
            verb.add_argument(
                "--no-cache", action="store_true", help="build every step again, even if the image exists"
            )
        if name == "pin":
            verb.add_argument("repository", help="where the image is, such as registry.example/team/cpu")
            verb.add_argument("--push", action="store_true", help="upload it there first")
    verbs.add_parser("ls", help="list environments with their images and pins").add_argument(
        "--json", action="store_true", help="print JSON"
    )
    return parser


def _build(asked: Namespace) -> int:
    docker = engine()
    load_environment(asked.name, root=ROOT)
    built = made(asked.name, stage=asked.stage, docker=docker, fresh=asked.no_cache)
    if not docker.facts().keeps_manifests:
        say(
            "this engine keeps no manifests: the image is known by its config digest, and is not the same bit for bit when built again"
        )
    refresh(docker)
    _show_one(built, as_json=asked.json)
    return 0


def _pin(asked: Namespace) -> int:
    docker = engine()
    built = made(asked.name, stage="environment", docker=docker)
    pinned = pins.pin(built, asked.repository, engine=docker, root=ROOT, push=asked.push)
    if docker.image(pinned.reference) is None:
        docker.pull(pinned.reference)
    refresh(docker)
    _print(
        pinned.model_dump(mode="json"),
        [f"pinned {asked.name} to {pinned.reference}", f"commit environments/{asked.name}.pin.toml"],
        as_json=asked.json,
    )
    return 0


def _unpin(asked: Namespace) -> int:
    load_environment(asked.name, root=ROOT)
    existed = pins.unpin(asked.name, root=ROOT)
    refresh(engine())
    _print(
        {"environment": asked.name, "was_pinned": existed},
        [f"{asked.name} is {'no longer' if existed else 'not'} pinned"],
        as_json=asked.json,
    )
    return 0


def _restore(asked: Namespace) -> int:
    docker = engine()
    load_environment(asked.name, root=ROOT)
    held = pins.restore(asked.name, engine=docker, root=ROOT)
    refresh(docker)
    _print(held.pin.model_dump(mode="json"), [f"{asked.name} is {held.pin.reference}, as pinned"], as_json=asked.json)
    return 0


def _list(asked: Namespace) -> int:
    docker = engine()
    used = read_block(DOTENV).values.get("REPRISE_IMAGE")
    rows: list[dict[str, Any]] = []
    for name in environment_names(ROOT):
        pinned = load_pin(name, root=ROOT)
        built = find_built_image(name, stage="environment", engine=docker, root=ROOT)
        reference = pinned.reference if pinned else built.reference if built else None
        rows.append(
            {
                "environment": name,
                "image": reference,
                "pinned": pinned is not None,
                "size": built.size if built else None,
                "used": reference is not None and reference == used,
            }
        )
    lines = [
        f"{'*' if row['used'] else ' '} {row['environment']:8} {_bytes(row['size']):>8}  {row['image'] or 'not built'}"
        for row in rows
    ]
    _print({"images": rows}, lines, as_json=asked.json)
    return 0


def _show(asked: Namespace) -> int:
    load_environment(asked.name, root=ROOT)
    if asked.stage == "environment" and (pinned := load_pin(asked.name, root=ROOT)):
        held = pins.require_pinned_image(pinned, engine=engine())
        document = {**pinned.model_dump(mode="json"), "manifest": pinned.manifest, "size": held.size}
        lines = [f"{key:11} {value}" for key, value in document.items() if key not in {"format", "layers", "size"}]
        _print(document, [*lines, f"{'size':11} {_bytes(held.size)}, pinned"], as_json=asked.json)
        return 0
    built = find_built_image(asked.name, stage=asked.stage, engine=engine(), root=ROOT)
    if built is None:
        said = f"environment {asked.name!r} has no image of this checkout's inputs (stage {asked.stage})"
        raise ImageMissingError(
            said,
            hint=f"reprise image build {asked.name}"
            + ("" if asked.stage == "environment" else f" --stage {asked.stage}"),
        )
    _show_one(built, as_json=asked.json)
    return 0


def _smoke(asked: Namespace) -> int:
    docker = engine()
    load_environment(asked.name, root=ROOT)
    fetch_pinned(asked.name, docker=docker)
    if load_pin(asked.name, root=ROOT) is None:
        made(asked.name, stage="environment", docker=docker)
    values = refresh(docker)
    once = single_run_values(asked.name, engine=docker, root=ROOT)
    with tempfile.TemporaryDirectory(prefix="reprise-smoke-") as folder:
        runs = Path(folder)
        runs.chmod(0o777)
        environ = {**os.environ, **values, **once}
        publish_samples(values, docker=docker)
        options = [*compose.volume(runs, "/runs"), "-e", "REPRISE_RUNS=/runs"]
        found = smoke_test(
            lambda words: compose.run("train", words, root=ROOT, environ=environ, options=options),
            runs=runs,
            expects_gpu="gpu" in once["COMPOSE_FILE"],
        )
    line = f"{asked.name}: {found.steps} steps, twice, on {found.device} with torch {found.torch}: equal weights, {found.weights[:19]}"
    _print(found.document(), [line], as_json=asked.json)
    return 0


def _show_one(built: BuiltImage, *, as_json: bool) -> None:
    document = {
        "environment": built.plan.inputs.environment.name,
        "stage": built.plan.stage,
        "tag": built.plan.tag,
        "reference": built.reference,
        "build_id": built.plan.build_id,
        "manifest": built.manifest,
        "config": built.config,
        "lock": built.plan.inputs.lock,
        "base": built.plan.inputs.base,
        "layers": list(built.layers),
        "size": built.size,
        "seconds": built.seconds,
    }
    took = f"built in {built.seconds:.0f} s" if built.seconds is not None else "already built"
    lines = [f"{key:11} {value}" for key, value in document.items() if key not in {"layers", "size", "seconds"}]
    lines += [f"{'layers' if number == 0 else '':11} {layer}" for number, layer in enumerate(built.layers)]
    _print(document, [*lines, f"{'size':11} {_bytes(built.size)}, {took}"], as_json=as_json)


def _print(document: dict[str, Any], lines: Sequence[str], *, as_json: bool) -> None:
    sys.stdout.write(json.dumps(document) + "\n" if as_json else "".join(f"{line}\n" for line in lines))


def _bytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.0f} MB"
