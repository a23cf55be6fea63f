"""Plain modules on several devices: the result is bit-identical for any number, and unsupported modules are rejected by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from trainer.base.errors import ExperimentError, ExperimentFailedError

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]
MODULES: Final = Path(__file__).parent / "modules"


def results(checkout: Checkout, *argv: str) -> tuple[str | None, bytes, bytes, dict[str, Any]]:
    """Train, and return the digest of the weights, the logged values, the trace and the results."""
    code, _, err = checkout.train("--threads", "1", "--max-epochs", "2", "--no-publish", *argv)
    assert code == 0, err
    folder, record = checkout.last()
    files = (folder / "metrics.jsonl").read_bytes(), (folder / "trace.jsonl").read_bytes()
    return record.outcome.weights, *files, dict(record.outcome.metrics)


def test_values_and_metrics_of_a_module_have_the_same_bits_on_two_devices(checkout: Checkout) -> None:
    shutil.copy(MODULES / "measured.py", checkout.root / "measured.py")
    module = ("--exp", "measured.py", "--shards", "2")
    one, two = (results(checkout, *module, "--devices", count) for count in ("1", "2"))
    assert one == two
    logged = [json.loads(line) for line in one[1].splitlines()]
    epoch = next(line for line in logged if "train/samples" in line)
    # 150 samples are 9 batches of 16
    assert (epoch["train/samples"], epoch["train/mean"]) == (144, epoch["train/loss_epoch"])
    step = next(line for line in logged if "train/odd" in line)
    assert step["train/odd"] == pytest.approx(2 * step["train/loss_step"])
    assert step["train/worst_step"] > step["train/loss_step"]


def test_a_module_that_synchronizes_its_values_is_resumed_on_another_number_of_devices(checkout: Checkout) -> None:
    """Lightning records `sync_dist` only on several devices, and would reject the partial sum of a run on one device."""
    text = (MODULES / "measured.py").read_text()
    stops = (
        "        if self.global_step == 12 and not self.trainer.ckpt_path:\n            raise RuntimeError('stop')\n"
    )
    (checkout.root / "stops.py").write_text(
        text.replace(
            "        x, y = batch\n        out = self(x +", f"{stops}        x, y = batch\n        out = self(x +"
        )
    )
    words = (
        "--exp",
        "stops.py",
        "--threads",
        "1",
        "--max-epochs",
        "2",
        "--shards",
        "2",
        "--checkpoint-every",
        "5",
        "--no-publish",
    )
    code, _, err = checkout.train(*words)
    assert code == ExperimentFailedError.code, err
    done = checkout.reprise("train", "--resume", "latest", "--devices", "2", "--no-publish")
    assert done.returncode == 0, done.stderr


def test_a_value_that_is_logged_for_some_shards_only_is_rejected(checkout: Checkout) -> None:
    text = (MODULES / "measured.py").read_text().replace("if self.global_step % 2:", "if x[0, 0] > 0:")
    (checkout.root / "sometimes.py").write_text(text)
    code, _, err = checkout.train("--exp", "sometimes.py", "--shards", "8", "--no-publish")
    assert (code, "logs different values for different shards of a batch" in err) == (ExperimentError.code, True), err


@pytest.mark.long
@pytest.mark.parametrize("name", ["measured", "autoencoder"])
def test_a_module_is_certified_elastic(checkout: Checkout, name: str) -> None:
    shutil.copy(MODULES / f"{name}.py", checkout.root / f"{name}.py")
    words = ("--threads", "1", "--no-publish", "--max-epochs", "2", "--batch-size", "16")
    done = checkout.reprise("certify", "elastic", f"{name}.py", *words)
    assert done.returncode == 0, done.stderr
    assert "elastic holds: trained on 1, 2, 4 devices, and begun on 4, killed after step" in done.stdout
