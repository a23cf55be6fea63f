"""`reprise image`: builds, pins, restores, lists, shows and smoke-tests images. Runs on the host only."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.base.errors import ImageMissingError
from trainer.cli.arguments import Arguments
from trainer.cli.checkout import DOTENV, ROOT, engine, ensure_image, fetch_pinned, publish_samples, refresh_block
from trainer.cli.output import print_progress, print_result
from trainer.environments import pin as pins
from trainer.environments.build import STAGES, find_built_image
from trainer.environments.declaration import environment_names, load_environment, load_pin
from trainer.environments.dotenv import read_block
from trainer.environments.engine import compose
from trainer.environments.setup import single_run_values
from trainer.launch.smoke_test import smoke_test

if TYPE_CHECKING:
    from argparse import Namespace

    from trainer.environments.build import BuiltImage


def main(argv: list[str]) -> int:
    """Run a subcommand."""
    args = _parser().parse_args(argv)
    code: int = args.verb(args)
    return code


def _parser() -> Arguments:
    parser = Arguments("reprise image", "Manage the images of environments.")
    verbs = parser.commands()
    for name, verb, summary in (
        ("ls", _list, "list the environments with their images and pins"),
        ("build", _build, "build an environment's image, unless an image of the current inputs exists"),
        ("pin", _pin, "pin an environment to its image in a registry"),
        ("unpin", _unpin, "remove an environment's pin"),
        ("restore", _restore, "fetch an environment's pinned image"),
        ("show", _show, "show the digests, layers and size of an environment's image"),
        ("smoke", _smoke, "test an environment's image: run its self-test, then train ten steps twice and compare"),
    ):
        parsed = verbs.add_parser(name, help=summary)
        parsed.set_defaults(verb=verb)
        parsed.add_argument("--json", action="store_true", help="print the result as JSON")
        if name != "ls":
            parsed.add_argument(
                "name", metavar="ENVIRONMENT", help="environment: a name in environments/, without .toml"
            )
        if name in {"build", "show"}:
            parsed.add_argument(
                "--stage",
                choices=STAGES,
                default="environment",
                help="stage of docker/Dockerfile (default: %(default)s)",
            )
        if name == "build":
            parsed.add_argument(
                "--no-cache", action="store_true", help="run every build step, even if the image exists"
            )
        if name == "pin":
            parsed.add_argument(
                "repository", metavar="REPOSITORY", help="the image's repository, such as registry.example/team/cpu"
            )
            parsed.add_argument("--push", action="store_true", help="push the image to the repository first")
    return parser


def _build(args: Namespace) -> int:
    docker = engine()
    load_environment(args.name, root=ROOT)
    built = ensure_image(args.name, stage=args.stage, docker=docker, fresh=args.no_cache)
    if not docker.facts().keeps_manifests:
        print_progress(
            "this engine keeps no manifests: the image is identified by its config digest, and a rebuild is not bit-identical"
        )
    refresh_block(docker)
    _print_image(built, as_json=args.json)
    return 0


def _pin(args: Namespace) -> int:
    docker = engine()
    built = ensure_image(args.name, stage="environment", docker=docker)
    pinned = pins.pin(built, args.repository, engine=docker, root=ROOT, push=args.push)
    if docker.image(pinned.reference) is None:
        docker.pull(pinned.reference)
    refresh_block(docker)
    print_result(
        pinned.model_dump(mode="json"),
        [f"pinned {args.name} to {pinned.reference}", f"commit environments/{args.name}.pin.toml"],
        as_json=args.json,
    )
    return 0


def _unpin(args: Namespace) -> int:
    load_environment(args.name, root=ROOT)
    existed = pins.unpin(args.name, root=ROOT)
    refresh_block(engine())
    print_result(
        {"environment": args.name, "was_pinned": existed},
        [f"{args.name} is {'no longer' if existed else 'not'} pinned"],
        as_json=args.json,
    )
    return 0


def _restore(args: Namespace) -> int:
    docker = engine()
    load_environment(args.name, root=ROOT)
    pin = pins.restore(args.name, engine=docker, root=ROOT).pin
    refresh_block(docker)
    print_result(pin.model_dump(mode="json"), f"{args.name} is {pin.reference}, as pinned", as_json=args.json)
    return 0


def _list(args: Namespace) -> int:
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
    print_result({"images": rows}, lines, as_json=args.json)
    return 0


def _show(args: Namespace) -> int:
    load_environment(args.name, root=ROOT)
    if args.stage == "environment" and (pinned := load_pin(args.name, root=ROOT)):
        image = pins.require_pinned_image(pinned, engine=engine())
        document = {**pinned.model_dump(mode="json"), "manifest": pinned.manifest, "size": image.size}
        lines = [f"{key:11} {value}" for key, value in document.items() if key not in {"format", "layers", "size"}]
        print_result(document, [*lines, f"{'size':11} {_bytes(image.size)}, pinned"], as_json=args.json)
        return 0
    built = find_built_image(args.name, stage=args.stage, engine=engine(), root=ROOT)
    if built is None:
        stage = "" if args.stage == "environment" else f" --stage {args.stage}"
        raise ImageMissingError(
            f"environment {args.name!r} has no image of this checkout's inputs (stage {args.stage})",
            hint=f"reprise image build {args.name}{stage}",
        )
    _print_image(built, as_json=args.json)
    return 0


def _smoke(args: Namespace) -> int:
    docker = engine()
    load_environment(args.name, root=ROOT)
    fetch_pinned(args.name, docker=docker)
    if load_pin(args.name, root=ROOT) is None:
        ensure_image(args.name, stage="environment", docker=docker)
    values = refresh_block(docker)
    run_values = single_run_values(args.name, engine=docker, root=ROOT)
    with tempfile.TemporaryDirectory(prefix="reprise-smoke-") as folder:
        runs = Path(folder)
        runs.chmod(0o777)
        environ = {**os.environ, **values, **run_values}
        publish_samples(values, docker=docker)
        options = [*compose.volume(runs, "/runs"), "-e", "REPRISE_RUNS=/runs"]
        result = smoke_test(
            lambda arguments: compose.run("train", arguments, root=ROOT, environ=environ, options=options),
            runs=runs,
            expects_gpu="gpu" in run_values["COMPOSE_FILE"],
        )
    lines = [
        f"{args.name}: self-test: {result.accepted} valid inputs accepted, {result.rejected} damaged inputs rejected",
        f"{args.name}: {result.steps} steps, twice, on {result.device} with torch {result.torch}: equal weights, {result.weights[:19]}",
    ]
    print_result(asdict(result), lines, as_json=args.json)
    return 0


def _print_image(built: BuiltImage, *, as_json: bool) -> None:
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
    build_time = f"built in {built.seconds:.0f} s" if built.seconds is not None else "already built"
    lines = [f"{key:11} {value}" for key, value in document.items() if key not in {"layers", "size", "seconds"}]
    lines += [f"{'layers' if number == 0 else '':11} {layer}" for number, layer in enumerate(built.layers)]
    print_result(document, [*lines, f"{'size':11} {_bytes(built.size)}, {build_time}"], as_json=as_json)


def _bytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.0f} MB"
