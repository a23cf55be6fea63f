"""Documents of runs that an attacker could change: records, seals, traces, checkpoints, certificates."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from tests import certified
from tests.certified import make_keys
from tests.comparison.compared import make_run, save_trace, save_weights
from tests.runs.machines import Machine
from tests.security.kind import ROOT, Kind, command
from tests.security.mutation import mutated_bytes, mutated_json
from trainer.base.digest import digest_of_bytes
from trainer.comparison.certificate import sign
from trainer.comparison.compare import EvidenceSources as ComparedPlaces
from trainer.comparison.compare import compare, load_compared_run
from trainer.comparison.retest import Retest, run_identity, save_retest
from trainer.comparison.trace import read_trace, truncate_trace
from trainer.reporting.curves import read_curves, read_schedule
from trainer.runs.checkpoint_pointer import Saved, restore_checkpoint
from trainer.runs.figure import FILE, Figures, LineFigure, MatrixFigure, PointFigure, Series, TextFigure
from trainer.runs.publish import publish_run
from trainer.runs.record import Knowledge
from trainer.runs.run import ATTEMPTS
from trainer.source.archive import read_archive
from trainer.stores import open_store

if TYPE_CHECKING:
    from random import Random

    from trainer.comparison.compare import ComparedRun


def new_run_of(folder: Path) -> ComparedRun:
    found = make_run(folder / "runs")
    assert found.attempt
    save_trace(found.attempt, 0.5, 0.4, 0.3)
    (found.attempt / "metrics.jsonl").write_text('{"step":1,"epoch":0,"train_loss":0.5}\n{"step":2,"val_loss":"NaN"}\n')
    return found


def attempt_of(found: ComparedRun) -> Path:
    assert found.attempt
    return found.attempt


def record(folder: Path) -> Kind:
    """A record on this machine that is listed, shown, compared, reported and published."""
    good, bad = new_run_of(folder), new_run_of(folder)
    path, turn = attempt_of(bad) / "record.json", count()
    full = json.loads((ROOT / "tests" / "golden" / "record-1.json").read_bytes())
    names = (good.record.run, bad.record.run)
    verbs = (
        *(("runs", "ls", "--local"), ("runs", "ls", "--local", "--json"), ("runs", "show", names[1], "--store", "")),
        *(("compare", *names), ("compare", *names, "--json"), ("runs", "show", names[1], "--json", "--store", "")),
        *(("report", *names, "--no-samples", "-o", "-"), ("report", names[1], "--no-samples", "-o", "-")),
        *(("runs", "publish", names[1]), ("runs", "show", "latest", "--store", "")),
    )

    def read(body: bytes) -> None:
        path.write_bytes(body)
        command("runs", "ls", "--local")
        command(*verbs[next(turn) % len(verbs)])

    texts = [path.read_bytes(), json.dumps({**full, "run": names[1]}).encode()]
    return Kind(texts, read, mutated_json)


def seal(folder: Path) -> Kind:
    """A seal in a shared store that is listed, shown, compared and pulled."""
    good, bad = new_run_of(folder), new_run_of(folder)
    run = bad.record.run
    publish_run(folder / "runs" / run, open_store(str(folder / "store")))
    shutil.rmtree(folder / "runs" / run)
    path, turn = folder / "store" / "runs" / run / ATTEMPTS / "1" / "sealed.json", count()
    path.chmod(0o644)
    verbs = (
        *(("runs", "ls"), ("runs", "show", run), ("compare", good.record.run, run), ("runs", "pull", run)),
        *(("runs", "ls", "--json"), ("runs", "show", run, "--json")),
    )

    def read(body: bytes) -> None:
        path.write_bytes(body)
        try:
            command(*verbs[next(turn) % len(verbs)])
        finally:
            shutil.rmtree(folder / "runs" / run, ignore_errors=True)

    return Kind([path.read_bytes()], read, mutated_json)


def snapshot(folder: Path) -> Kind:
    """A snapshot in a shared store that is pulled, shown, and pulled over an older snapshot."""
    there = folder / "store"
    there.mkdir(exist_ok=True)
    machine = Machine(name="first", runs=folder / "elsewhere" / "runs", store=open_store(str(there)))
    run = machine.begin()
    machine.snapshot(machine.train(1))
    machine.attempt.release()
    path, turn = there / "runs" / run / ATTEMPTS / "1" / "snapshots" / "1.json", count()
    path.chmod(0o644)
    verbs = (("runs", "pull", run), ("runs", "show", run), ("runs", "pull", run), ("runs", "publish", run))

    def read(body: bytes) -> None:
        path.write_bytes(body)
        number = next(turn) % len(verbs)
        command(*verbs[number])
        if number == len(verbs) - 1:
            shutil.rmtree(folder / "runs" / run, ignore_errors=True)

    return Kind([path.read_bytes()], read, mutated_json)


def claim_of_another(folder: Path) -> Kind:
    """A claim in the store, or a local claim."""
    found = new_run_of(folder)
    run, here = found.record.run, attempt_of(found) / "claim.json"
    publish_run(folder / "runs" / run, open_store(str(folder / "store")))
    there, turn, good = folder / "store" / "runs" / run / ATTEMPTS / "1" / "claim.json", count(), here.read_bytes()
    there.chmod(0o644)

    def read(body: bytes) -> None:
        path = (here, there)[next(turn) % 2]
        path.write_bytes(body)
        try:
            command("runs", "publish", run, "--abandoned")
        finally:
            path.write_bytes(good)

    return Kind([good], read, mutated_json)


def published(folder: Path) -> Kind:
    """The note of a run's publication."""
    found = new_run_of(folder)
    run, path, turn = found.record.run, attempt_of(found) / "published.json", count()
    publish_run(folder / "runs" / run, open_store(str(folder / "store")))
    verbs = (("runs", "ls"), ("runs", "show", run), ("runs", "publish", run), ("runs", "pull", run))

    def read(body: bytes) -> None:
        path.write_bytes(body)
        command(*verbs[next(turn) % len(verbs)])

    return Kind([path.read_bytes()], read, mutated_json)


def latest(folder: Path) -> Kind:
    """The pointer to the latest checkpoint."""
    found = new_run_of(folder)
    place = attempt_of(found) / "checkpoints"
    place.mkdir()
    (place / "a.ckpt").write_bytes(b"x")
    whole = {"path": "a.ckpt", "sha256": digest_of_bytes(b"x"), "step": 3}
    saved = Saved.model_validate({**whole, "epoch": 1, "batch": 2, "logs": {"metrics.jsonl": 3}, "best": whole})

    again = attempt_of(found).parent / "2"
    again.mkdir()

    def read(body: bytes) -> None:
        (place / "latest.json").write_bytes(body)
        restore_checkpoint(again, say=lambda _: None)

    return Kind([saved.to_json()], read, mutated_json)


def checkpoint(folder: Path) -> Kind:
    """The file of a checkpoint, in the current format or as a pickle of earlier versions."""
    import numpy as np
    import torch

    from trainer.training.resuming.checkpoint_file import read_checkpoint, require_whole, write_checkpoint

    whole = torch.arange(24.0).reshape(4, 6)
    state = {
        "state_dict": {
            "w": whole,
            "v": whole.t(),
            "u": whole[1:, ::2],
            "i": torch.arange(3),
            "h": torch.zeros(2).half(),
        },
        "optimizer_states": [{"step": torch.tensor(3.0), "betas": (0.9, 0.99), "nan": float("nan"), "big": 2**70}],
        "loops": {"a": [1, None, True, "x", b"y", {1: "one"}], "set": {1, 2}},
        "reprise": {"run": "r", "step": 3, "array": np.arange(6).reshape(2, 3), "scalar": np.float32(0.5)},
        "pytorch-lightning_version": "2",
    }
    written, pickled = io.BytesIO(), io.BytesIO()
    write_checkpoint(written, state)
    torch.save({name: state[name] for name in ("state_dict", "optimizer_states")}, pickled)

    def read(body: bytes) -> None:
        (folder / "a.ckpt").write_bytes(body)
        require_whole(read_checkpoint(folder / "a.ckpt"), run="r")

    def change(draw: Random, body: bytes) -> bytes:
        if body.startswith(b"PK") or draw.random() < 0.5:
            return mutated_bytes(draw, body)
        length = int.from_bytes(body[:8], "little")
        header = json.loads(body[8 : 8 + length])
        tree = header["__metadata__"]["tree"].encode()
        header["__metadata__"]["tree"] = mutated_json(draw, tree).decode(errors="replace")
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + body[8 + length :]

    return Kind([written.getvalue(), written.getvalue(), pickled.getvalue()], read, change)


def weights(folder: Path) -> Kind:
    """Weights and `tensors.json`, which are compared with those of another run."""
    a, b = (
        make_run(folder / "runs"),
        make_run(folder / "runs", weights={"w": ("F32", bytes(8)), "v": ("F64", bytes(16))}),
    )
    paths, turn = [attempt_of(b) / name for name in ("weights.safetensors", "tensors.json")], count()
    texts = [path.read_bytes() for path in paths]

    def read(body: bytes) -> None:
        path = paths[0 if body[8:9] == b"{" or next(turn) % 2 else 1]
        path.write_bytes(body)
        try:
            compare(a_side, b_side, sources=ComparedPlaces(runs=folder / "runs", cache=folder / "cache"))
        finally:
            path.write_bytes(texts[paths.index(path)])

    a_side, b_side = load_compared_run(a.folder or Path()), load_compared_run(b.folder or Path())
    save_weights(attempt_of(a), {"w": ("F32", bytes(8))})
    return Kind(texts, read)


def trace(folder: Path) -> Kind:
    """A trace that is compared, truncated and drawn."""
    a, b = new_run_of(folder), new_run_of(folder)
    path, other = attempt_of(b) / "trace.jsonl", ComparedPlaces(runs=folder / "runs", cache=folder / "cache")

    def read(body: bytes) -> None:
        path.write_bytes(body)
        read_schedule(path)
        compare(a, b, sources=other)
        truncate_trace(read_trace(path), 2)

    return Kind([path.read_bytes()], read)


def metrics(folder: Path) -> Kind:
    """The logged values of a run, which are compared and drawn."""
    a, b = new_run_of(folder), new_run_of(folder)
    for each in (a, b):
        (attempt_of(each) / "trace.jsonl").unlink()
    path, names, turn = attempt_of(b) / "metrics.jsonl", (a.record.run, b.record.run), count()

    def read(body: bytes) -> None:
        path.write_bytes(body)
        read_curves(path)
        if next(turn) % 2:
            command("report", *names, "--no-samples", "-o", "-")
        else:
            command("compare", *names)

    return Kind([path.read_bytes() * 3], read)


def figures(folder: Path) -> Kind:
    """The figures of a run, which are drawn in a report."""
    found = new_run_of(folder)
    path = attempt_of(found) / FILE
    good = Figures(
        figures=(
            LineFigure(
                name="a", title="t", x_label="x", y_label="y", series=(Series(name="s", x=(0, 1), y=(1e-3, 2)),)
            ),
            MatrixFigure(
                name="b", title="t", row_label="r", column_label="c", rows=("x",), columns=("y",), counts=((3,),)
            ),
            PointFigure(name="c", title="t", x_label="x", y_label="y", x=(0.5, 1), y=(1, 2), of=9),
            TextFigure(name="d", title="t", text="words"),
        )
    )

    def read(body: bytes) -> None:
        path.write_bytes(body)
        command("report", found.record.run, "--no-samples", "-o", "-")

    return Kind([good.to_json()], read, mutated_json)


def retest(folder: Path) -> Kind:
    """A retest in a run's folder."""
    found, other = new_run_of(folder), new_run_of(folder)
    good = Retest.model_validate(
        {
            "original": run_identity(found.record),
            "retest": run_identity(other.record),
            "who": "me",
            "host": "h",
            "when": "2026-03-01T12:00:00Z",
            "device": "a CPU",
            "how": "here",
            "image": Knowledge.UNKNOWN,
            "verdict": "identical",
            "evidence": digest_of_bytes(b""),
        }
    )
    path, turn = save_retest(folder / "runs" / found.record.run, good, evidence=b"{}"), count()
    verbs = (("runs", "show", found.record.run, "--store", ""), ("report", found.record.run, "--no-samples", "-o", "-"))

    def read(body: bytes) -> None:
        path.write_bytes(body)
        command(*verbs[next(turn) % 2])

    return Kind([good.to_json()], read, mutated_json)


def certificate(folder: Path) -> Kind:
    """A certificate, with or without a signature."""
    a, b = (certified.make_traced_run(folder / "runs", 0.5, 0.4) for _ in range(2))
    stated, (private, public) = certified.make_statement(a, b).to_json(), make_keys(folder)
    path, turn = folder / "runs" / a.record.run / "certificates" / "c.json", count()
    path.parent.mkdir()

    def read(body: bytes) -> None:
        path.write_bytes(body)
        if next(turn) % 3 == 0:
            command("report", a.record.run, "--no-samples", "-o", "-")
        words = ("--key", str(public)) if next(turn) % 3 == 1 else ()
        command("verify", str(path), *words)

    return Kind([stated, sign(stated, key=private)], read, mutated_json)


def source(folder: Path) -> Kind:
    """A source bundle: the compressed bytes, or the archive before compression."""
    good = (new_run_of(folder).folder or Path()) / "source.tar.gz"
    plain = gzip.decompress(good.read_bytes())

    def read(body: bytes) -> None:
        (folder / "s.tar.gz").write_bytes(body)
        read_archive(folder / "s.tar.gz")

    def change(draw: Random, body: bytes) -> bytes:
        found = mutated_bytes(draw, body)
        return found if body[:2] == b"\x1f\x8b" else gzip.compress(found, compresslevel=1)

    return Kind([good.read_bytes(), plain], read, change)
