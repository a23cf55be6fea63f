"""Typical LightningModules, trained by the command: recorded, killed, resumed, rerun and compared."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

import pytest

from trainer.runs.record import RunStatus

if TYPE_CHECKING:
    from tests.training.conftest import Checkout
    from trainer.runs.record import Record

pytestmark = [pytest.mark.torch, pytest.mark.trains]
MODULES: Final = Path(__file__).parent / "modules"
NET: Final = "theirs.template.models.components.simple_dense_net.SimpleDenseNet(lin1_size=48)"
TEMPLATE: Final = (
    *("--exp", "theirs/template/models/digits_module.py", "--data", "theirs/template/data/digits_datamodule.py"),
    *("--net", NET, "--optimizer", "torch.optim.Adam(lr=0.002)", "--no-compile"),
    *("--scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau(factor=0.1)"),
)
KINDS: Final = {
    "autoencoder": ("--exp", "theirs/autoencoder.py", "--num-workers", "1"),
    "GAN": ("--exp", "theirs/gan.py"),
    "several tasks": ("--exp", "theirs/multi_task.py"),
    "fine-tuned backbone": ("--exp", "theirs/fine_tuned.py"),
    "diffusion": ("--exp", "theirs/diffusion.py"),
    "template": TEMPLATE,
}
_NO_FORWARD: Final = "not exportable, because forward is not defined"
EPOCHS: Final = ("--max-epochs", "12", "--checkpoint-every", "7", "--no-publish")


@pytest.fixture(scope="module")
def theirs(checkout: Checkout) -> Checkout:
    """Return the checkout with a team's modules in the folder `theirs`."""
    if not (checkout.root / "theirs").exists():
        shutil.copytree(MODULES, checkout.root / "theirs", ignore=shutil.ignore_patterns("__pycache__"))
    return checkout


def newest_run(checkout: Checkout) -> Path:
    return max((path for path in (checkout.root / "runs").iterdir() if path.name[0] == "2"), key=lambda path: path.name)


def train(checkout: Checkout, *options: str) -> tuple[Path, Record]:
    code, _, err = checkout.train(*options)
    assert code == 0, err
    return checkout.last()


def train_killed(checkout: Checkout, number: int, *options: str, lines: int = 75) -> Path:
    """Train, send signal `number` once the trace has more than `lines` lines, and return the run's folder."""
    before, process = {*(checkout.root / "runs").iterdir()}, checkout.start(*options)
    deadline = monotonic() + 100
    while monotonic() < deadline and process.poll() is None:
        new = [path for path in (checkout.root / "runs").iterdir() if path not in before and path.name[0] == "2"]
        trace = new[0] / "attempts/1/trace.jsonl" if new else None
        if trace and trace.exists() and trace.read_bytes().count(b"\n") > lines:
            process.send_signal(number)
            break
        sleep(0.002)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0, err
    # torch's workers notice within 5 s that their parent process was killed
    sleep(0 if number == signal.SIGTERM else 6)
    return newest_run(checkout)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if kind == "GAN" else pytest.mark.long) for kind in KINDS],
)
def test_a_killed_module_resumes_with_the_bits_of_an_uninterrupted_run(theirs: Checkout, kind: str) -> None:
    folder, record = train(theirs, *KINDS[kind], *EPOCHS)
    whole = folder.parents[1]
    for number in (signal.SIGKILL, signal.SIGTERM) if kind != "template" else (signal.SIGKILL,):
        run = train_killed(theirs, number, *KINDS[kind], *EPOCHS)
        resumed = theirs.reprise("train", "--resume", run.name)
        assert resumed.returncode == 0, resumed.stderr
        compared = theirs.reprise("compare", whole.name, run.name)
        assert compared.returncode == 0, compared.stdout
    assert record.outcome.status is RunStatus.COMPLETED
    assert record.circumstances.limits["data"]
    unchecked = f"not checked: reprise check {KINDS[kind][1]}"
    assert record.circumstances.limits["export"] == (
        _NO_FORWARD if kind in {"diffusion", "several tasks"} else unchecked
    )


def test_logged_metrics_are_the_results_and_parameters_the_settings(theirs: Checkout) -> None:
    folder, record = train(
        theirs, "--exp", "theirs/autoencoder.py", "--max-epochs", "2", "--hidden-dim", "6", "--no-publish"
    )
    assert sorted(record.outcome.metrics) == ["test/loss", "train/loss", "val/loss"]
    settings = record.ingredients.settings
    assert (settings["hidden_dim"], settings["batch_size"], settings["split"]) == (6, 32, [320, 64, 64])
    assert record.outcome.ledger["hidden_dim"].bound[0].startswith("LitAutoEncoder (theirs/autoencoder.py:")
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {"val/loss", "train/loss_epoch", "test/loss"} <= {name for line in logged for name in line}
    assert (folder / "weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("source", "options", "message", "hint"),
    [
        ("class M(L.LightningModule): pass", (), "M has no training_step", "--model NAME"),
        ("x = 1", (), "neither a class Settings with a task's net, nor a LightningModule", "lightning.md"),
        (
            "class A(L.LightningModule):\n    def training_step(self, b): ...\n\nclass B(L.LightningModule): ...",
            (),
            "has 2 classes that derive from LightningModule: A, B",
            "--model A",
        ),
        (
            "class M(L.LightningModule):\n    def __init__(self, width): ...\n    def training_step(self, b): ...",
            (),
            "M needs width, which no setting can fill: it has no type",
            "width: int",
        ),
        (
            "class M(L.LightningModule):\n    def training_step(self, b): ...",
            (),
            "dataset",
            "dataset",
        ),
        (
            "class M(L.LightningModule):\n    def training_step(self, b): ...\n    def train_dataloader(self): ...",
            ("--learning-rate", "0.1"),
            "unknown setting --learning-rate",
            "",
        ),
    ],
)
def test_an_unfit_module_is_rejected_with_a_hint(
    theirs: Checkout, source: str, options: tuple[str, ...], message: str, hint: str
) -> None:
    runs = {*(theirs.root / "runs").glob("[0-9]*")}
    (theirs.root / "unfit.py").write_text(f"import lightning as L\n\n\n{source}\n")
    code, _, err = theirs.train("--exp", "unfit.py", *options)
    assert 1 < code < 100
    assert message in err
    assert hint in err
    assert {*(theirs.root / "runs").glob("[0-9]*")} == runs


def test_a_parameter_without_a_type_cannot_be_given(theirs: Checkout) -> None:
    code, _, err = theirs.train("--exp", "theirs/autoencoder.py", "--activation", "torch.nn.GELU")
    assert code == 41
    assert "parameter activation of LitAutoEncoder (autoencoder.py:55) cannot be given: it has no type" in err


@pytest.mark.long
def test_a_sweep_checks_and_trains_its_points(theirs: Checkout) -> None:
    sweep = ("sweep", "theirs/gan.py", "--max-epochs", "1", "--no-publish")
    done = theirs.reprise(*sweep, "--lr", "1e-4,1e-3", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["points"]) == 2
    wrong = theirs.reprise(*sweep, "--lr", "1e-4,fast")
    assert wrong.returncode == 41
    assert "setting lr, given on the command line: expected a number, found 'fast'" in wrong.stderr


def test_check_tests_what_runs_promise(theirs: Checkout) -> None:
    done = theirs.reprise("check", "theirs/autoencoder.py", "--json")
    assert done.returncode == 0, done.stderr
    found = {each["check"]: each["status"] for each in json.loads(done.stdout)["findings"]}
    kept = dict.fromkeys(("repeatable", "resumable", "several devices", "exportable"), "passed")
    assert found == {"trained": "passed", "recorded": "noted"} | kept


@pytest.mark.parametrize(
    ("module", "old", "new", "message"),
    [
        (
            "gan",
            "",
            "",
            "note     not tested: forward does not accept the first element of a batch: RuntimeError: ",
        ),
        (
            "gan",
            "self.validation_z =",
            "self.example_input_array = torch.zeros(2, latent_dim)\n        self.validation_z =",
            "ok       torch.export can export the trained net, for batches of any size; equal bits",
        ),
        (
            "autoencoder",
            "return self.encoder(x)",
            "return self.encoder(x) if x.sum() > 0 else -self.encoder(x)",
            "note     torch.export failed at other.py:62: GuardOnDataDependentSymNode: ",
        ),
    ],
)
def test_check_tells_whether_a_module_can_be_exported(
    theirs: Checkout, module: str, old: str, new: str, message: str
) -> None:
    text = (theirs.root / f"theirs/{module}.py").read_text()
    assert old in text
    (theirs.root / "other.py").write_text(text.replace(old, new) if old else text)
    done = theirs.reprise("check", "other.py", "--steps", "6")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"exportable        {message}" in done.stdout


@pytest.mark.parametrize("name", ["multi_task", pytest.param("fine_tuned", marks=pytest.mark.long)])
def test_check_runs_a_module_that_uses_its_logger_or_its_own_checkpoints(theirs: Checkout, name: str) -> None:
    done = theirs.reprise("check", f"theirs/{name}.py", "--steps", "6")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "several devices   ok       2 steps with 2 shards" in done.stdout


def test_check_finds_a_module_that_does_not_repeat(theirs: Checkout) -> None:
    text = (
        (theirs.root / "theirs/gan.py")
        .read_text()
        .replace(" z = torch.randn(", " torch.seed()\n        z = torch.randn(")
    )
    (theirs.root / "unseeded.py").write_text(text)
    done = theirs.reprise("check", "unseeded.py")
    assert done.returncode == 89, done.stderr
    assert "repeatable        FAILED   the same steps again give other weights" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--clip-norm", "1"), "setting clip_norm has no effect: GAN optimizes manually"),
        (("--shards", "2"), "a batch has 2 shards, but GAN optimizes manually: its steps cannot be summed over shards"),
        (("--latent-dim", "few"), "latent_dim"),
        (("--data", "/etc/data.py"), "setting data is '/etc/data.py', which is not a file of the run's source"),
        (("--lerning-rate", "1"), "unknown setting --lerning-rate"),
        (("--monitor", "g_los"), "did you mean g_loss?"),
    ],
)
def test_a_setting_that_does_not_fit_a_module_is_an_error(
    theirs: Checkout, options: tuple[str, ...], message: str
) -> None:
    code, _, err = theirs.train("--exp", "theirs/gan.py", *options, "--max-epochs", "1", "--no-publish")
    assert 1 < code < 100
    assert message in err


@pytest.mark.long
def test_a_rerun_is_identical(theirs: Checkout) -> None:
    folder, _ = train(theirs, *TEMPLATE, "--max-epochs", "2", "--no-publish")
    done = theirs.reprise("reproduce", folder.parents[1].name, "--no-container", "--allow-drift")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical" in done.stdout


def test_a_dataset_reaches_a_module_as_a_folder(theirs: Checkout) -> None:
    (theirs.root / "folder.py").write_text(FOLDER)
    _, record = train(theirs, "--exp", "folder.py", "--data-dir", "{dataset:dots}", "--max-epochs", "1")
    assert list(record.ingredients.datasets) == ["dots"]
    assert record.ingredients.settings["data_dir"] == "{dataset:dots}"
    limit = "not exportable, because forward is not defined"
    assert record.circumstances.limits == {"export": limit}
    shown = theirs.reprise("runs", "show", record.run)
    assert f"export: {limit}" in shown.stdout


FOLDER: Final = """
import pathlib

import lightning as L
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Dots(L.LightningModule):
    def __init__(self, data_dir: str):
        super().__init__()
        self.data_dir = pathlib.Path(data_dir)
        self.net = nn.Linear(16, 2)

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.net(batch[0].flatten(1)), batch[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        arrays = [torch.tensor(np.load(self.data_dir / f"{name}.npy")) for name in ("images", "labels")]
        return DataLoader(TensorDataset(*arrays), batch_size=8, shuffle=True)
"""
