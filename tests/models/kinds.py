"""Trained models of several kinds. Each is trained in a checkout with the commands that a user types."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from tests.data import tokenizers
from tests.models import nets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.training.conftest import Checkout

_ORIGIN: Final = ("--license", "CC0-1.0", "--source", "made")
_SPLITS: Final = ("--split", "train=0%:60%", "--split", "val=60%:80%", "--split", "test=80%:100%")
_SMALL_TRANSFORMER: Final = ("--width", "16", "--heads", "2", "--layers", "1", "--warmup-steps", "0")
LINE: Final = "line {} has {}words\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of model."""

    task: str
    """The task class from which the net is derived."""
    prepare: Callable[[Checkout, Path], list[str]]
    """Prepares code and data, the data in an empty folder, and returns the arguments of the training command."""
    like: str = ""
    """The experiment of which a copy is trained."""


def _pictures(checkout: Checkout, folder: Path) -> list[str]:
    draw = random.Random(0)  # noqa: S311 - pictures for a test, not for cryptography
    for kind, dark in (("day", 150), ("night", 0)):
        (folder / kind).mkdir()
        for number in range(30):
            grey = bytes(dark + draw.randrange(100) for _ in range(64))
            (folder / kind / f"{number:02}.pgm").write_bytes(b"P5 8 8 255\n" + grey)
    _publish(checkout, "sky", folder, "--images", ".", "--mode", "L", "--size", "8x8", *_SPLITS)
    return ["--exp", _copy(checkout, "digits", "sky")]


def _table(checkout: Checkout, folder: Path) -> list[str]:
    draw = random.Random(0)  # noqa: S311 - test data, not for cryptography
    lines = ["color,height,width,sold"]
    for number in range(100):
        color, height, width = draw.choice(["red", "green", "blue"]), draw.uniform(1, 9), draw.uniform(1, 9)
        shown = "" if number % 20 == 1 else f"{width:.2f}"
        lines.append(f"{color},{height:.2f},{shown},{'yes' if height > width else 'no'}")
    (folder / "doors.csv").write_text("\n".join(lines) + "\n")
    treated = ("--missing", "width=indicator", "--missing", "color=category", "--unknown", "color")
    _publish(checkout, "doors", folder / "doors.csv", "--target", "sold", "--yes", *treated)
    return ["--exp", _copy(checkout, "customers", "doors")]


def _sequences(checkout: Checkout, folder: Path) -> list[str]:
    lines = [LINE.format(number, "many " * (number % 7)) for number in range(60)]
    (folder / "lines.txt").write_text("".join(lines))
    _publish(checkout, "talk", folder, "--lines", "lines.txt", *_SPLITS)
    return ["--exp", _copy(checkout, "characters", "talk"), *_SMALL_TRANSFORMER]


def _tokens(checkout: Checkout, folder: Path) -> list[str]:
    draw = random.Random(0)  # noqa: S311 - words for a test, not for cryptography
    lines = [" ".join(draw.choices("abcd", k=1 + number % 6)) for number in range(60)]
    (folder / "words.txt").write_text("\n".join(lines) + "\n")
    (folder / "tokenizer.json").write_bytes(tokenizers.body(tokenizers.words(*"abcd")))
    words = ("--tokenizer", "tokenizer.json", "--end-token", "</s>", "--pad-token", "<pad>")
    _publish(checkout, "words", folder, "--lines", "words.txt", *words, *_SPLITS)
    return ["--exp", _copy(checkout, "characters", "words"), *_SMALL_TRANSFORMER]


def _measurements(checkout: Checkout, folder: Path) -> list[str]:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(60, 5)).astype(np.float32)
    _publish_arrays(checkout, "walks", folder, features=features, target=features.sum(1) * 50 + 150)
    return ["--exp", _copy(checkout, "diabetes", "walks"), "--input-shape", "[5]"]


def _shapes(checkout: Checkout, folder: Path) -> list[str]:
    draw = np.random.default_rng(0)
    image = draw.random((40, 1, 8, 8), dtype=np.float32)
    mask = ((image[:, 0] > 0.4).astype(np.uint8) + (image[:, 0] > 0.8)).astype(np.uint8)
    _publish_arrays(checkout, "spots", folder, image=image, mask=mask)
    return ["--exp", _copy(checkout, "masks", "spots"), "--channels", "4"]


def _tags(checkout: Checkout, folder: Path) -> list[str]:
    draw = np.random.default_rng(0)
    image = draw.normal(size=(60, 4)).astype(np.float32)
    _publish_arrays(checkout, "tags", folder, image=image, labels=(image[:, :3] > 0).astype(np.uint8))
    return _code(checkout, "tagged", nets.MULTI_LABEL)


def _two_inputs(checkout: Checkout, folder: Path) -> list[str]:
    draw = np.random.default_rng(0)
    image, size = draw.random((60, 1, 4, 4), dtype=np.float32), draw.integers(0, 5, 60)
    _publish_arrays(checkout, "sized", folder, image=image, size=size, label=(size > 2).astype(np.int64))
    return _code(checkout, "both", nets.TWO_INPUTS)


def _of_dots(like: str) -> Callable[[Checkout, Path], list[str]]:
    return lambda checkout, _: ["--exp", _copy(checkout, like, "dots"), "--input-shape", "[1, 4, 4]"]


def _from_code(name: str, code: str, *words: str) -> Callable[[Checkout, Path], list[str]]:
    return lambda checkout, _: [*_code(checkout, name, code), *words]


KINDS: Final[dict[str, Kind]] = {
    "pictures": Kind(task="Classifier", like="digits", prepare=_pictures),
    "table": Kind(task="Classifier", like="customers", prepare=_table),
    "faces": Kind(task="Classifier", like="faces", prepare=_of_dots("faces")),
    "two-inputs": Kind(task="Classifier", prepare=_two_inputs),
    "regression": Kind(task="Regressor", like="diabetes", prepare=_measurements),
    "segmentation": Kind(task="Segmenter", like="masks", prepare=_shapes),
    "verification": Kind(task="Verifier", like="pairs", prepare=_of_dots("pairs")),
    "multi-label": Kind(task="MultiLabelClassifier", prepare=_tags),
    "multi-task": Kind(task="MultiTask", prepare=_from_code("several", nets.MULTI_TASK)),
    "sequences": Kind(task="SequenceModel", like="characters", prepare=_sequences),
    "tokens": Kind(task="SequenceModel", like="characters", prepare=_tokens),
    "plain": Kind(task="LightningModule", prepare=_from_code("plain", nets.PLAIN, "--dataset", "dots")),
    "plain-tensors": Kind(
        task="LightningModule", prepare=_from_code("renamed", nets.PLAIN_TENSORS, "--dataset", "dots")
    ),
}


_RUNS: dict[tuple[Path, str], str] = {}
"""The run of each checkout and kind."""


def train(checkout: Checkout, kind: str, folder: Path) -> str:
    """Train a model of a kind for one epoch, with its data in an empty folder, unless the checkout has one; return the run."""
    if (known := _RUNS.get((checkout.root, kind))) is not None:
        return known
    words = KINDS[kind].prepare(checkout, folder)
    code, _, err = checkout.train(*words, "--max-epochs", "1", "--batch-size", "8")
    assert code == 0, err
    run = _RUNS[checkout.root, kind] = checkout.last()[0].parents[1].name
    return run


def _publish(checkout: Checkout, name: str, path: Path, *words: str) -> None:
    done = checkout.reprise("data", "publish", name, str(path), *words, *_ORIGIN)
    assert done.returncode == 0, done.stderr


def _publish_arrays(checkout: Checkout, name: str, folder: Path, **arrays: np.ndarray) -> None:
    for field, values in arrays.items():
        np.save(folder / f"{field}.npy", values)
    words = [f"--array={field}={field}.npy" for field in arrays]
    _publish(checkout, name, folder, *words, *_SPLITS)


def _code(checkout: Checkout, name: str, code: str) -> list[str]:
    (checkout.root / f"{name}.py").write_text(code)
    return ["--exp", f"{name}.py"]


def _copy(checkout: Checkout, experiment: str, dataset: str) -> str:
    """Write an experiment for a dataset as a copy of another experiment."""
    name = f"{dataset}_{experiment}"
    done = checkout.reprise("new", name, "--like", experiment, "--dataset", dataset)
    assert done.returncode == 0, done.stderr
    return name
