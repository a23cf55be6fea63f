"""Documents that a colleague could change: settings, sweeps, small documents, environments, locks."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.security.kind import ROOT, Kind, command
from tests.security.mutation import mutated_bytes, mutated_json
from tests.security.run_documents import new_run_of
from trainer.base.digest import digest_of_bytes
from trainer.base.document import read_json, read_toml
from trainer.comparison.baseline import Baseline
from trainer.comparison.noise import Noise, measured_noise
from trainer.data.cache.folder import VersionObjects
from trainer.data.inspection import Inspection, SplitValues, read_inspection, require_readable
from trainer.environments.declaration import load_environment, load_pin, read_lock
from trainer.environments.dotenv import read_block, user_values
from trainer.environments.lock_file import misplaced, requirements_digest, tool_digest, undefined_extras
from trainer.runs.image_claim import claim_image
from trainer.runs.image_file import IMAGE_FILE
from trainer.runs.run import record_of
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.source.description import Source
from trainer.sweeps.document import Point, Sweep, SweepRequest, read_points
from trainer.training.settings import TrainingSettings
from trainer.training.timing import BenchResult

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


def settings(folder: Path) -> Kind:
    """A settings file, and a file with the points of a sweep."""
    path, turn = folder / "settings.toml", count()

    def read(body: bytes) -> None:
        path.write_bytes(body)
        if next(turn) % 2:
            read_points(path)
        else:
            resolve(TrainingSettings, Origins(options=parse_options([]), environ={}, files=(path,)))

    good = b'# mine\nlearning-rate = 1e-3\nmax_epochs = 2\nprecision = "32-true"\ndeterminism = "machine"\nseed = 7\n'
    points = b'[[points]]\nseed = 1\nname = "a"\nsizes = [1, 2]\n[[points]]\nseed = 2\nwhen = 1979-05-27T07:32:00Z\n'
    return Kind([good, points], read)


def points_toml(folder: Path) -> Kind:
    """TOML in any form, parsed as a document with free keys."""

    def read(body: bytes) -> None:
        (folder / "a.toml").write_bytes(body)
        read_toml(folder / "a.toml", Point)

    return Kind([b'settings = {a = "b"}\nruns = []\ncode = 1\n', b'[settings]\n"x.y" = "z"\n'], read)


def documents(folder: Path) -> Kind:
    """Small documents: noise, baseline, benchmark, inspection, the objects of a cached version, the description of an image."""
    found = record_of(new_run_of(folder).folder or Path())
    digest = digest_of_bytes(b"")
    readers: dict[str, tuple[dict[str, Any], Callable[[Path], object]]] = {
        "noise": (
            {
                "format": "reprise.noise/1",
                "experiment": "digits",
                "settings": {"learning_rate": 0.001},
                "environment": None,
                "device": "a CPU",
                "seeds": [1, 2, 3],
                "metrics": {"a": [1.0, 2.0, 3.0]},
            },
            lambda path: [
                each.explains("a") for each in (measured_noise(path.parent, [found]), read_json(path, Noise)) if each
            ],
        ),
        "baseline": (json.loads(next((ROOT / "tests" / "baselines").glob("*.json")).read_bytes()), _baseline),
        "inspection": (
            Inspection(splits={"": SplitValues(samples=1, unread=1)}).model_dump(mode="json"),
            lambda path: require_readable(read_inspection(path.read_bytes(), where="i"), dataset="d"),
        ),
        "objects": (
            {"manifest": digest, "content": digest, "files": 1, "bytes": 1, "objects": {"a": 1}},
            lambda path: read_json(path, VersionObjects),
        ),
        "bench": ({"bench": {}}, lambda path: read_json(path, BenchResult)),
        "image": (
            {"format": "reprise.image/1", "environment": "cpu", "build_id": digest, "lock": digest},
            lambda path: claim_image({"REPRISE_IMAGE": "a"}, run=path.parent, baked=path),
        ),
    }
    place = folder / "noise-here"
    place.mkdir()
    assert not IMAGE_FILE.exists()

    def read(body: bytes) -> None:
        kind, _, text = body.partition(b"\n")
        path = place / "a.json"
        path.write_bytes(text)
        readers[kind.decode()][1](path)

    def change(draw: Random, body: bytes) -> bytes:
        kind, _, text = body.partition(b"\n")
        return kind + b"\n" + mutated_json(draw, text)

    return Kind([name.encode() + b"\n" + json.dumps(each[0]).encode() for name, each in readers.items()], read, change)


def _baseline(path: Path) -> None:
    found = read_json(path, Baseline)
    for entry in found.entries:
        found.nearest(entry.key)


def sweep(folder: Path) -> Kind:
    """The document of a sweep, which `sweep --show` reads."""
    runs = [new_run_of(folder).record.run for _ in range(2)]
    points = [{"seed": "0", "learning_rate": "1e-3"}, {"seed": "1", "learning_rate": "1e-2"}]
    good = Sweep.model_validate(
        {
            "id": runs[0],
            "created": "2026-03-01T12:00:00Z",
            "source": digest_of_bytes(b""),
            "asked": SweepRequest(experiment="digits", points=points),
            "captured": Source(how="mounted"),
            "points": [Point(settings=each, runs=[run]) for each, run in zip(points, runs, strict=True)],
        }
    )
    place, turn = folder / "runs" / "sweeps" / runs[0], count()
    place.mkdir(parents=True)

    def read(body: bytes) -> None:
        (place / "sweep.json").write_bytes(body)
        command("sweep", "--show", runs[0], *(("--json",) if next(turn) % 2 else ()))

    return Kind([good.to_json()], read, mutated_json)


def environment(folder: Path) -> Kind:
    """Environments, pins and the lock of a stranger's checkout, and `.env`."""
    (folder / "environments").mkdir()
    declared = [each.read_bytes() for each in (ROOT / "environments").glob("c*.toml")]
    digest = digest_of_bytes(b"")
    pin = f'environment = "cpu"\nreference = "r/x@{digest}"\nconfig = "{digest}"\nbuild_id = "{digest}"\nlayers = ["{digest}"]\n'
    lock = (ROOT / "uv.lock").read_bytes()
    dotenv = b"A=1\n# >>> reprise: written by scripts/setup; lines of your own belong outside of this block. 0\nB='2'\n# <<< reprise\n"
    good = [
        *(b"env\n" + each for each in declared),
        b"pin\n" + pin.encode(),
        b"lock\n" + lock[-20_000:],
        b"dot\n" + dotenv,
    ]

    def read(body: bytes) -> None:
        kind, _, text = body.partition(b"\n")
        if kind == b"env":
            (folder / "environments" / "cpu.toml").write_bytes(text)
            load_environment("cpu", root=folder)
        elif kind == b"pin":
            (folder / "environments" / "cpu.pin.toml").write_bytes(text)
            load_pin("cpu", root=folder)
        elif kind == b"lock":
            (folder / "uv.lock").write_bytes(text)
            found = read_lock(folder)
            undefined_extras(found, ["cpu"])
            requirements_digest(found, ["cpu"])
            misplaced(found, ["cpu"])
            tool_digest(found, "uv")
        else:
            (folder / ".env").write_bytes(text)
            read_block(folder / ".env")
            user_values(folder / ".env")

    def change(draw: Random, body: bytes) -> bytes:
        kind, _, text = body.partition(b"\n")
        return kind + b"\n" + mutated_bytes(draw, text)

    return Kind(good, read, change)
