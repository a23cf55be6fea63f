"""Every setting in `--help`: given once, with an observed effect. A new setting needs a line here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.checking import ROOT, restored_threads
from trainer.base.errors import NotFiniteError, RepriseError
from trainer.data.declaration import load_dataset
from trainer.settings.determinism import Level, variables
from trainer.settings.ledger import Ledger, call_configured, use_ledger
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training import settings as ours
from trainer.training.assembly import FetchedDataset, TrainingJob
from trainer.training.experiment import load_experiment
from trainer.training.fit import placement, train
from trainer.training.logs.loggers import loggers
from trainer.training.readers.synthetic import make_synthetic
from trainer.training.resuming.stop_requests import StopRequest
from trainer.training.shards.place import RankPlace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.training.conftest import Checkout

pytestmark = pytest.mark.torch
BASE: Final = (
    "--determinism",
    "off",
    "--threads",
    "1",
    "--max-epochs",
    "1",
    "--batch-size",
    "8",
    "--tensorboard=false",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortTraining:
    weights: str = ""
    steps: int = 0
    metrics: dict[str, float]
    lines: tuple[str, ...]
    files: dict[str, int]
    used: dict[str, list[str]]
    fault: str = ""


def weights(with_it: ShortTraining, without: ShortTraining) -> bool:
    return with_it.weights != without.weights


def steps(with_it: ShortTraining, without: ShortTraining) -> bool:
    return with_it.steps != without.steps


def size_of(file: str) -> Callable[[ShortTraining, ShortTraining], bool]:
    return lambda with_it, without: with_it.files.get(file) != without.files.get(file)


def lines(with_it: ShortTraining, without: ShortTraining) -> bool:
    return len(with_it.lines) != len(without.lines)


def fault(text: str) -> Callable[[ShortTraining, ShortTraining], bool]:
    return lambda with_it, without: text in with_it.fault and text not in without.fault


def bound_to(setting: str, function: str) -> Callable[[ShortTraining, ShortTraining], bool]:
    return lambda with_it, _: any(place.startswith(f"{function} (") for place in with_it.used[setting])


def goes_on(with_it: ShortTraining, without: ShortTraining) -> bool:
    return without.fault.startswith(NotFiniteError.__name__) and not with_it.fault.startswith(NotFiniteError.__name__)


SGD, STEP, BEST = ("--optimizer", "sgd"), ("--schedule", "step", "--step-size", "2"), ("--monitor", "val_loss")
LONG = ("--max-epochs", "4", "--learning-rate", "0.05")

IN_A_FIT: Final[
    dict[str, tuple[str, tuple[str, ...], tuple[str, ...], Callable[[ShortTraining, ShortTraining], bool]]]
] = {
    # setting: experiment, required options, the option itself, its observed effect
    "seed": ("digits", (), ("--seed", "1"), weights),
    "max_epochs": ("digits", (), ("--max-epochs", "2"), steps),
    "max_steps": ("digits", (), ("--max-steps", "2"), steps),
    "batch_size": ("digits", (), ("--batch-size", "4"), steps),
    "shuffle_window": ("digits", (), ("--shuffle-window", "64"), weights),
    "accumulate": ("digits", (), ("--accumulate", "2"), steps),
    "optimizer": ("digits", (), ("--optimizer", "rmsprop"), weights),
    "learning_rate": ("digits", (), ("--learning-rate", "0.5"), weights),
    "weight_decay": ("digits", (), ("--weight-decay", "0.5"), weights),
    "momentum": ("digits", SGD, ("--momentum", "0.1"), weights),
    "nesterov": ("digits", SGD, ("--nesterov",), weights),
    "beta1": ("digits", (), ("--beta1", "0.1"), weights),
    "beta2": ("digits", (), ("--beta2", "0.1"), weights),
    "epsilon": ("digits", (), ("--epsilon", "0.1"), weights),
    "schedule": ("digits", (), ("--schedule", "one_cycle"), weights),
    "warmup_steps": ("digits", (), ("--warmup-steps", "3"), weights),
    "final_rate": ("digits", ("--schedule", "linear"), ("--final-rate", "0.9"), weights),
    "step_size": ("digits", STEP[:2], ("--step-size", "1"), weights),
    "gamma": ("digits", STEP, ("--gamma", "0.9"), weights),
    "ema_decay": ("digits", (), ("--ema-decay", "0.5"), weights),
    "clip_norm": ("digits", SGD, ("--clip-norm", "0.001"), weights),
    "precision": ("digits", (), ("--precision", "64-true"), weights),
    "monitor": ("digits", (*LONG, "--monitor=none"), ("--monitor=val_loss", "--monitor-mode=max"), weights),
    "monitor_mode": ("digits", (*LONG, *BEST), ("--monitor-mode", "max"), weights),
    "patience": ("digits", (*LONG, *BEST, "--min-delta", "100"), ("--patience", "1"), steps),
    "min_delta": ("digits", (*LONG, *BEST, "--patience", "1"), ("--min-delta", "100"), steps),
    "terminate_on_nan": ("digits", ("--learning-rate", "1e38"), ("--no-terminate-on-nan",), goes_on),
    "workers": ("digits", (), ("--workers", "1"), bound_to("workers", "RunData")),
    "checkpoint_every": ("digits", (), ("--checkpoint-every", "1"), bound_to("checkpoint_every", "Checkpoints")),
    "log_every": ("digits", (), ("--log-every", "1"), size_of("metrics.jsonl")),
    "progress": ("digits", (), ("--no-progress",), lines),
    "tensorboard": ("digits", (), ("--tensorboard=true",), size_of("tensorboard")),
    "trace": ("digits", (), ("--trace", "off"), size_of("trace.jsonl")),
    "frozen": ("digits", (), ("--frozen", '["layers.0.*"]'), weights),
    "learning_rates": ("digits", (), ("--learning-rates", '{"layers.0.*": 0.5}'), weights),
    "ClassificationSettings.classes": ("digits", (), ("--classes", "11"), weights),
    "ClassificationSettings.label_smoothing": ("digits", (), ("--label-smoothing", "0.5"), weights),
    "ClassificationSettings.class_weights": ("digits", (), ("--class-weights", "[1,2,3,4,5,6,7,8,9,10]"), weights),
    "SegmentationSettings.target_field": ("masks", (), ("--target-field", "kind"), fault("kind")),
    "SegmentationSettings.ignore_index": ("masks", (), ("--ignore-index", "0"), weights),
    "MultiTaskSettings.input_field": ("several", (), ("--input-field", "pixels"), fault("pixels")),
    "MultiLabelSettings.labels": ("labeled", (), ("--labels", "4"), fault("setting labels is 4")),
    "MultiLabelSettings.input_field": ("labeled", (), ("--input-field", "pixels"), fault("pixels")),
    "MultiLabelSettings.target_field": ("labeled", (), ("--target-field", "kind"), fault("kind")),
    "ClassificationSettings.input_field": ("digits", (), ("--input-field", "pixels"), fault("pixels")),
    "ClassificationSettings.target_field": ("digits", (), ("--target-field", "kind"), fault("kind")),
    "RegressionSettings.input_field": ("diabetes", (), ("--input-field", "columns"), fault("columns")),
    "RegressionSettings.target_field": ("diabetes", (), ("--target-field", "kind"), fault("kind")),
    "VerificationSettings.input_field": ("pairs", (), ("--input-field", "pixels"), fault("pixels")),
    "VerificationSettings.target_field": ("pairs", (), ("--target-field", "kind"), fault("kind")),
    "VerificationSettings.margin": ("pairs", (), ("--margin", "3"), weights),
    "SequenceSettings.input_field": ("characters", (), ("--input-field", "words"), fault("words")),
    "SequenceSettings.vocabulary": ("characters", (), ("--vocabulary", "300"), fault("setting vocabulary is 300")),
    "SequenceSettings.context": ("characters", (), ("--context", "5"), weights),
}


OF_TESTS: Final = ("labeled", "several")


@cache
def prepared(name: str) -> Any:
    folder = "tests/training/tasks" if name in OF_TESTS else "trainer/experiments"
    experiment = load_experiment(name, ROOT / f"{folder}/{name}.py", root=ROOT)
    return experiment, *make_synthetic(load_dataset(_dataset(experiment), root=ROOT), rows=96)


def _dataset(experiment: Any) -> str:
    return str(resolve(experiment.settings, Origins(options=parse_options([]), environ={})).settings.dataset)


def words_of(*groups: tuple[str, ...]) -> list[str]:
    """Join groups of options; later options replace earlier ones."""
    options: dict[str, str | None] = {}
    for group in groups:
        options |= parse_options(group)
    return [f"--{name.replace('_', '-')}" + ("" if text is None else f"={text}") for name, text in options.items()]


def trained(name: str, words: list[str], into: Path) -> ShortTraining:
    experiment, dataset, data = prepared(name)
    into.mkdir()
    ledger = Ledger(resolve(experiment.settings, Origins(options=parse_options(words), environ={})))
    messages: list[str] = []
    job = TrainingJob(
        run="every",
        experiment=experiment,
        ledger=ledger,
        datasets=[FetchedDataset(declared=dataset, files=data)],
        into=into,
        stop=StopRequest(),
        say=messages.append,
        on_first_step=lambda: None,
        on_terminal=False,
        device="cpu",
        started=monotonic(),
    )
    try:
        found = train(job)
    except RepriseError as wrong:
        return ShortTraining(metrics={}, lines=(), files={}, used={}, fault=f"{type(wrong).__name__}: {wrong.message}")
    entries = ledger.entries()
    return ShortTraining(
        weights=found.weights,
        steps=found.steps,
        metrics=found.metrics,
        lines=tuple(messages),
        files={path.name: path.stat().st_size for path in into.iterdir()},
        used={setting: [*entry.bound, *entry.read] for setting, entry in entries.items()},
    )


@pytest.fixture(autouse=True)
def _off(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in variables(Level.OFF, threads=1).items():
        monkeypatch.setenv(name, value)
    with restored_threads():
        yield


@pytest.fixture(scope="module")
def without() -> dict[tuple[str, tuple[str, ...]], ShortTraining]:
    return {}


@pytest.mark.parametrize("setting", IN_A_FIT)
def test_each_setting_changes_a_training(
    setting: str, tmp_path: Path, without: dict[tuple[str, tuple[str, ...]], ShortTraining]
) -> None:
    name, needs, given, effect = IN_A_FIT[setting]
    if (name, needs) not in without:
        without[name, needs] = trained(name, words_of(BASE, needs), tmp_path / "without")
    with_it = trained(name, words_of(BASE, needs, given), tmp_path / "with")
    assert effect(with_it, without[name, needs]), (with_it, without[name, needs])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--devices", "2"), (2, "cpu", "ShardedDevices")),
        (("--shards", "4"), (1, "cpu", "ShardedDevice")),
        (("--devices", "2", "--strategy", "fsdp"), (2, "cpu", "FullyShardedDevices")),
        (("--accelerator", "cpu"), (1, "cpu", "str")),
    ],
)
def test_each_device_setting_selects_the_device(words: tuple[str, ...], expected: tuple[int, str, str]) -> None:
    resolved = resolve(ours.TrainingSettings, Origins(options=parse_options(["--dataset=d", *words]), environ={}))
    place = RankPlace(rank=0, world=2, local_rank=0, here=2, meeting="nowhere") if "--devices" in words else None
    with use_ledger(Ledger(resolved)):
        found = call_configured(placement, "gpu" if "--accelerator" in words else "cpu", place)
    assert (found["devices"], found["accelerator"], type(found["strategy"]).__name__) == expected


def test_each_wandb_setting_has_its_effect(tmp_path: Path) -> None:
    words = ["--dataset=d", "--wandb", "offline", "--wandb-project", "other", "--no-tensorboard"]
    with use_ledger(Ledger(resolve(ours.TrainingSettings, Origins(options=parse_options(words), environ={})))):
        page: Any = call_configured(loggers, tmp_path)[-1]
    assert (type(page).__name__, page._project, page._offline) == ("WandbLogger", "other", True)


@pytest.fixture
def second_dataset(checkout: Checkout) -> Iterator[None]:
    file = checkout.root / "datasets/spots.toml"
    file.write_text((checkout.root / "datasets/dots.toml").read_text().replace('name = "dots"', 'name = "spots"'))
    yield
    file.unlink()


@pytest.mark.trains
@pytest.mark.usefixtures("second_dataset")
@pytest.mark.parametrize("by", ["flag", "environment", "file"])
def test_another_dataset_is_used_in_every_spelling(checkout: Checkout, by: str, tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('dataset = "spots"\n')
    words = {"flag": ("--dataset", "spots"), "file": ("--settings", str(tmp_path / "s.toml"))}.get(by, ())
    environ = {"REPRISE_SETTING_DATASET": "spots"} if by == "environment" else {}
    code, _, err = checkout.train(*words, "--threads", "1", "--determinism", "off", "--no-publish", **environ)
    assert code == 0, err
    record = checkout.last()[1]
    assert list(record.ingredients.datasets) == ["spots"]
    assert record.outcome.ledger["dataset"].read[0].startswith("Experiment.datasets (trainer/training/experiment.py:")
    assert (record.ingredients.determinism.level, record.ingredients.determinism.threads) == ("off", 1)
    assert all(record.outcome.ledger[name].read for name in ("determinism", "threads", "publish"))


@pytest.mark.trains
@pytest.mark.usefixtures("second_dataset")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("check", "dots.py", "--dataset", "spots", "--steps", "30"), "dots.py on spots@1"),
        (("check", "dots.py", "--settings", "s.toml", "--bits"), "spots@1"),
        (("bench", "dots.py", "--dataset", "spots", "--steps", "20", "--warmup", "1"), "spots"),
        (("sweep", "dots.py", "--dataset", "dots,spots", "--max-epochs", "1", "--no-publish"), "2 finished"),
    ],
)
def test_another_dataset_is_used_by_every_command(checkout: Checkout, words: tuple[str, ...], message: str) -> None:
    (checkout.root / "s.toml").write_text('dataset = "spots"\n')
    command = [sys.executable, "-m", "trainer", *words, "--threads", "1", "--determinism", "off"]
    done = subprocess.run(command, cwd=checkout.root, env=checkout.environ, capture_output=True, text=True, check=False)
    assert "nothing in this run uses it" not in done.stdout + done.stderr
    assert message in done.stdout + done.stderr, (done.returncode, done.stdout, done.stderr)


@pytest.mark.trains
def test_another_environment_than_this_one_is_rejected(checkout: Checkout) -> None:
    code, _, err = checkout.train("--environment", "elsewhere")
    assert code != 0
    assert "elsewhere" in err


BY_COMMAND: Final = {
    *("dataset", "publish", "determinism", "threads", "environment"),
    "publish_every",  # tests/training/test_snapshots.py
    "compile",  # tests/training/test_compilation.py
    *("init_from", "init_map", "init_allow"),  # tests/training/test_finetune.py
    *("devices", "shards", "strategy", "accelerator", "wandb", "wandb_project", "mlflow", "mlflow_experiment"),
}


def test_every_setting_of_the_package_has_a_case_here() -> None:
    """Settings of a task are listed by the class that declares them, settings of all training runs by name."""
    tasks = [kind for kind in vars(ours).values() if isinstance(kind, type) and issubclass(kind, ours.TrainingSettings)]
    own = {
        f"{kind.__name__}.{name}"
        for kind in tasks
        if kind is not ours.TrainingSettings
        for name in kind.__annotations__
        if name in kind.__pydantic_fields__
    }
    assert own | {*ours.TrainingSettings.__pydantic_fields__} == {*IN_A_FIT} | BY_COMMAND
