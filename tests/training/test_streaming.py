"""A dataset four times the cache's limit: each run equals a run with all files on the disk, and the cache stays within the limit."""

from __future__ import annotations

import io
import shutil
import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import fill
from tests.data.streams import watched
from tests.training.conftest import ROOT, Checkout
from trainer.data.declaration import Draft, declared
from trainer.data.files import SourceFolder
from trainer.data.publish import publish_dataset
from trainer.data.reader import ImagesReader
from trainer.data.splits import Below
from trainer.runs.run import load_record
from trainer.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.runs.record import Record

pytestmark = [pytest.mark.torch, pytest.mark.trains]
RESULTS = ("tensors.json", "weights.safetensors", "metrics.jsonl", "trace.jsonl")
LIMIT = 8_000_000
COUNT, SIDE = 90, 350
"""Pictures of noise, about 368 kB each."""
SMALL_COUNT, SMALL_SIDE = 1200, 60
"""Small pictures of noise, about 11 kB each."""
WINDOW = ("--dataset", "small", "--shuffle-window", "128")
"""Blocks of 16 neighbors; the order is the same without a limit."""
WORDS = ("--max-epochs", "3", "--no-publish", "--no-tensorboard")
EXPERIMENT = """
from torch import Tensor, nn
from trainer.training.tasks.classification import ClassificationSettings, Classifier

class Settings(ClassificationSettings):
    dataset = "noise"
    classes = 2
    batch_size = 8

class Net(Classifier):
    def __init__(self, *, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(147, classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)
"""


def picture(random: np.random.Generator, side: int) -> bytes:
    body = io.BytesIO()
    Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(body, format="PNG")
    return body.getvalue()


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Copy the package, publish 32 MB of pictures and 13 MB of small pictures, and write an experiment."""
    place = tmp_path_factory.mktemp("noise")
    root, store = place / "checkout", place / "store"
    shutil.copytree(ROOT / "trainer", root / "trainer", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "uv.lock", root)
    for folder in (root / "datasets", root / "runs", store):
        folder.mkdir()
    random = np.random.default_rng(0)
    parts = ["train"] * 8 + ["val", "test"]
    splits = {part: Below(prefix=f"{part}/") for part in ("train", "val", "test")}
    for name, count, side, least in (("noise", COUNT, SIDE, 4), ("small", SMALL_COUNT, SMALL_SIDE, 1.4)):
        files = {f"{parts[each % 10]}/{each % 2}/{each:04}.png": picture(random, side) for each in range(count)}
        draft = Draft(name=name, splits=splits, reader=ImagesReader(kind="images", classes=("0", "1")))
        source = SourceFolder(root=fill(place / name, files))
        published = publish_dataset(draft, source=source, store=open_store(str(store)))
        assert published.dataset.bytes > least * LIMIT
        (root / f"datasets/{name}.toml").write_text(declared(published.dataset))
    (root / "dots.py").write_text(EXPERIMENT)
    return Checkout(root=root, store=store)


def train(noise: Checkout, *words: str, **environ: str) -> str:
    """Train to the end, and return stderr."""
    process = noise.start(*WORDS, *words, **environ)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return err


@pytest.fixture(scope="module")
def on_disk(noise: Checkout) -> Path:
    """Train with all files on the disk, and remove the cache; return the attempt's folder."""
    train(noise)
    attempt = noise.last()[0]
    shutil.rmtree(noise.root.parent / "cache")
    return attempt


@pytest.fixture(scope="module")
def by_windows(noise: Checkout) -> Path:
    """Train with a window and all files on the disk, and remove the cache; return the attempt's folder."""
    train(noise, *WINDOW)
    attempt = noise.last()[0]
    shutil.rmtree(noise.root.parent / "cache")
    return attempt


def train_streamed(noise: Checkout, *words: str) -> tuple[Path, str]:
    """Train with the limit, and require that the cache uses it and stays within it; return the attempt's folder and stderr."""
    with watched(noise.root.parent / "cache") as usage:
        err = train(noise, *words, REPRISE_CACHE_LIMIT="8MB")
    assert LIMIT // 2 < usage[-1] <= LIMIT
    return noise.last()[0], err


def different_ingredients(one: Record, other: Record) -> dict[str, object]:
    pairs = zip(one.ingredients, other.ingredients, strict=True)
    return {name: (value, unlike) for (name, value), (_, unlike) in pairs if value != unlike}


def differing(attempt: Path, other: Path) -> list[str]:
    return [name for name in RESULTS if (attempt / name).read_bytes() != (other / name).read_bytes()]


@pytest.mark.parametrize("workers", [pytest.param("0", marks=pytest.mark.long), "2"])
def test_a_streamed_run_is_identical_to_one_on_the_disk(noise: Checkout, on_disk: Path, workers: str) -> None:
    attempt, err = train_streamed(noise, "--workers", workers)
    assert "fetched during the run: the cache's limit is 8.0 MB" in err
    assert differing(attempt, on_disk) == []
    records = [load_record(each / "record.json") for each in (attempt, on_disk)]
    assert different_ingredients(*records) == {}
    assert "shuffle_window" not in records[0].ingredients.settings


@pytest.mark.parametrize("workers", [pytest.param("0", marks=pytest.mark.long), "2"])
def test_a_streamed_run_by_windows_is_identical_to_one_on_the_disk(
    noise: Checkout, by_windows: Path, workers: str
) -> None:
    attempt, err = train_streamed(noise, *WINDOW, "--workers", workers)
    assert "fetched during the run" in err
    assert "shuffle-window" not in err
    assert differing(attempt, by_windows) == []
    records = [load_record(each / "record.json") for each in (attempt, by_windows)]
    assert different_ingredients(*records) == {}
    assert records[0].ingredients.settings["shuffle_window"] == 128
    names = [path.name for path in (noise.root.parent / "cache").glob("versions/small/*/streamed.*/*")]
    assert len([name for name in names if "-" in name]) > 20


@pytest.mark.long
@pytest.mark.parametrize("words", [(), WINDOW])
def test_a_killed_streamed_run_resumes_to_identical_bits(
    noise: Checkout, on_disk: Path, by_windows: Path, words: tuple[str, ...]
) -> None:
    known = set((noise.root / "runs").glob("[0-9]*"))
    with watched(noise.root.parent / "cache") as usage:
        process = noise.start(*WORDS, *words, "--checkpoint-every", "5", REPRISE_CACHE_LIMIT="8MB")
        assert process.stderr
        while not process.stderr.readline().startswith("epoch 2/"):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        (run,) = set((noise.root / "runs").glob("[0-9]*")) - known
        done = noise.reprise("train", "--resume", run.name, REPRISE_CACHE_LIMIT="8MB")
    assert done.returncode == 0, done.stderr
    assert LIMIT // 2 < usage[-1] <= LIMIT
    assert differing(run / "attempts/2", by_windows if words else on_disk) == []


@pytest.fixture
def weights(noise: Checkout, on_disk: Path) -> Iterator[str]:
    """Publish a dataset of weights; its two files are removed afterwards, because they would be in the source of other runs."""
    shutil.copy(on_disk / "weights.safetensors", noise.root / "net.safetensors")
    published = noise.reprise("data", "publish", "net", "net.safetensors", "--license", "CC0", "--source", "a test")
    assert published.returncode == 0, published.stderr
    yield "net@1"
    for name in ("net.safetensors", "datasets/net.toml"):
        (noise.root / name).unlink()


@pytest.mark.long
def test_a_streamed_run_begins_with_a_dataset_of_weights_and_is_reproduced(noise: Checkout, weights: str) -> None:
    words = ("--init-from", weights, "--seed", "1")
    streamed, _ = train_streamed(noise, *words)
    shutil.rmtree(noise.root.parent / "cache")
    train(noise, *words)
    assert differing(streamed, noise.last()[0]) == []
    shutil.rmtree(noise.root.parent / "cache")
    with watched(noise.root / "runs", pattern=".*.retest/cache") as usage:
        done = noise.reprise("reproduce", streamed.parents[1].name, "--no-container", REPRISE_CACHE_LIMIT="8MB")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("identical:")
    assert "fetched during the run" in done.stderr
    assert not (noise.root.parent / "cache/objects").exists()
    assert LIMIT // 2 < usage[-1] <= LIMIT


@pytest.mark.long
def test_an_outage_of_the_store_costs_a_pause(noise: Checkout, on_disk: Path) -> None:
    away = noise.store.with_name("away")
    process = noise.start(*WORDS, REPRISE_CACHE_LIMIT="8MB")
    assert process.stderr
    lines = [""]
    while not lines[-1].startswith("epoch 1/"):
        lines.append(process.stderr.readline())
        assert process.poll() is None
    noise.store.rename(away)
    try:
        while "retrying for up to 15 minutes" not in lines[-1]:
            lines.append(process.stderr.readline())
            assert process.poll() is None, lines
    finally:
        away.rename(noise.store)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "the store is reachable again after" in err
    assert differing(noise.last()[0], on_disk) == []
