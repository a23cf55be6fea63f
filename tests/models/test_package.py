"""Model packages of trained runs: they predict as the runs, and any altered file is found."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

pytest.importorskip("torch")

from tests.certified import make_keys
from tests.environments.engine.registry import on_free_port
from tests.models.nets import PLAIN
from tests.models.serving.running import running
from trainer.models.packaged import load_package
from trainer.models.serving.limits import Limits

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]
FILES: Final = (
    "model.pt2",
    "model.onnx",
    "weights.safetensors",
    "golden.safetensors",
    "record.json",
    "README.md",
    "certificate.json",
    "package.json",
    "package.sha256",
)
_REGRESSION: Final = """
from torch import nn
from trainer.training.tasks.regression import RegressionSettings, Regressor

class Settings(RegressionSettings):
    dataset = "dots"
    input_field = "image"
    target_field = "label"
    max_epochs = 1
    batch_size = 8

class Net(Regressor):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))

    def split_batch(self, batch):
        return batch["image"], batch["label"].float()

    def check_batch(self, given, wanted):
        pass

    def forward(self, images):
        return self.layers(images)[:, 0]
"""
_MIXED: Final = """
from torch import nn
from trainer.training.tasks.classification import ClassificationSettings, Classifier

class Settings(ClassificationSettings):
    dataset = "dots"
    classes = 2
    max_epochs = 1
    batch_size = 8

class Net(Classifier):
    def __init__(self, *, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(16, classes)

    def forward(self, images):
        flat = images.flatten(1)
        return self.layer(flat - flat.mean(0))
"""


def packaged(checkout: Checkout, run: str, *words: str) -> dict[str, Any]:
    """Run `reprise package RUN`, and return its output."""
    done = checkout.reprise("package", run, "--json", *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def package(checkout: Checkout) -> dict[str, Any]:
    """The package of a trained classifier."""
    assert checkout.train()[0] == 0
    return packaged(checkout, checkout.last()[0].parents[1].name)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A file with samples."""
    np.save(tmp_path / "new.npy", np.random.default_rng(3).random((1000, 1, 4, 4), dtype=np.float32))
    return tmp_path / "new.npy"


def test_a_package_predicts_as_its_run(checkout: Checkout, package: dict[str, Any], inputs: Path) -> None:
    certificate = package["certificate"]
    assert certificate["holds"]
    assert certificate["onnx"]["golden"]["samples"] == 16
    assert certificate["onnx"]["golden"]["largest"] <= certificate["onnx"]["tolerance"] == 1e-4
    assert certificate["test"] == {"samples": 20, "identical": True, "largest": 0.0, "output": None, "sample": None}
    assert {each["name"]: each["measured"] == each["recomputed"] for each in certificate["metrics"]} == {
        "test_loss": True,
        "test_accuracy": True,
        "test_f1": True,
    }
    run = json.loads((Path(package["path"]) / "package.json").read_bytes())["run"]
    of_run = json.loads(checkout.reprise("predict", run, str(inputs), "--json").stdout)
    of_package = json.loads(checkout.reprise("predict", package["path"], str(inputs), "--json").stdout)
    assert len(of_package["predictions"]) == 1000
    assert of_package["predictions"] == of_run["predictions"]
    assert of_package["package"] == package["package"]


def test_a_run_and_its_package_are_retested_identical(checkout: Checkout, package: dict[str, Any]) -> None:
    run = json.loads((Path(package["path"]) / "package.json").read_bytes())["run"]
    of_run, of_package = (checkout.reprise("retest", word, "--json") for word in (run, package["path"]))
    assert (of_run.returncode, of_package.returncode) == (0, 0), of_run.stderr + of_package.stderr
    found = json.loads(of_package.stdout)
    assert found["verdict"] == "identical"
    assert found["outputs"]["identical"]
    assert found["metrics"] == json.loads(of_run.stdout)["metrics"] == package["certificate"]["metrics"]


def test_a_server_predicts_1000_inputs_as_its_run(checkout: Checkout, package: dict[str, Any], inputs: Path) -> None:
    run = json.loads((Path(package["path"]) / "package.json").read_bytes())["run"]
    of_run = json.loads(checkout.reprise("predict", run, str(inputs), "--json").stdout)
    expected = [each["answer"] for each in of_run["predictions"]]
    with running(load_package(Path(package["path"])), Limits(), token=None) as server:
        served = server.post("/predict", inputs.read_bytes()).json
        values = np.load(inputs)
        tensor = {"name": "image", "datatype": "FP32", "shape": [*values.shape], "data": values.ravel().tolist()}
        inferred = server.post(server.infer, {"inputs": [tensor]}).json
    assert served == {"package": package["package"], "predictions": expected}
    scores = next(each["data"] for each in inferred["outputs"] if each["name"] == "scores")
    assert scores == [score for each in expected for score in each["scores"].values()]


def test_a_package_is_tested_in_each_way_when_it_is_made(package: dict[str, Any]) -> None:
    ways = {each["way"]: each for each in package["certificate"]["ways"]}
    assert [*ways] == ["python", "batch", "http", "v2"]
    assert all(each["holds"] and each["measured"]["samples"] == 16 for each in ways.values())
    assert all(ways[way]["program"]["identical"] for way in ("batch", "http", "v2"))


def test_a_net_that_mixes_the_samples_of_a_batch_is_not_packaged(checkout: Checkout) -> None:
    (checkout.root / "mixed.py").write_text(_MIXED)
    code, _, err = checkout.train("--exp", "mixed.py")
    assert code == 0, err
    run = checkout.last()[0].parents[1].name
    before = sorted((checkout.root / "runs/packages").glob("*"))
    done = checkout.reprise("package", run)
    assert done.returncode == 91
    assert "golden samples by python: failed: package mixed-" in done.stderr
    assert "golden sample" in done.stderr.partition("does not reproduce the run's results: ")[2]
    assert sorted((checkout.root / "runs/packages").glob("*")) == before
    assert not packaged(checkout, run, "--force")["certificate"]["holds"]


def test_retests_are_kept_beside_a_package_and_a_run_signed_with_a_key(
    checkout: Checkout, package: dict[str, Any], tmp_path: Path
) -> None:
    private, public = make_keys(tmp_path)
    run = json.loads((Path(package["path"]) / "package.json").read_bytes())["run"]
    for word, folder in ((package["path"], Path(package["path"])), (run, checkout.root / "runs" / run)):
        done = checkout.reprise("retest", word, "--key", str(private), "--json", REPRISE_HOST="lab-3")
        assert done.returncode == 0, done.stderr
        path = Path(json.loads(done.stdout)["retest"])
        assert path.parent == folder / "retests"
        done = checkout.reprise("verify", str(path), "--key", str(public))
        assert (done.returncode, "good, by key" in done.stdout) == (0, True), done.stderr
        assert "on lab-3" in done.stdout
        assert "as tested" in done.stdout
    done = checkout.reprise("packages", "show", package["path"], "--key", str(public))
    assert "identical on lab-3" in done.stdout
    assert "signature good, by key" in done.stdout


def test_a_package_is_signed_when_it_is_made(checkout: Checkout, package: dict[str, Any], tmp_path: Path) -> None:
    private, public = make_keys(tmp_path)
    run = json.loads((Path(package["path"]) / "package.json").read_bytes())["run"]
    made = packaged(checkout, run, "--key", str(private))
    done = checkout.reprise("verify", f"{made['path']}/package.dsse.json", "--key", str(public))
    assert (done.returncode, "good, by key" in done.stdout) == (0, True), done.stderr


def test_a_package_from_a_registry_predicts_as_the_pushed_package(
    checkout: Checkout, package: dict[str, Any], inputs: Path, tmp_path: Path
) -> None:
    with on_free_port(tmp_path / "registry") as address:
        done = checkout.reprise("packages", "push", package["path"], "--to", f"{address}/team/dots:1", "--json")
        assert done.returncode == 0, done.stderr
        pushed = json.loads(done.stdout)
        words = ("packages", "pull", f"{address}/team/dots@{pushed['manifest']}", "--json")
        done = checkout.reprise(*words, REPRISE_RUNS=str(tmp_path / "runs"))
        assert done.returncode == 0, done.stderr
    pulled = json.loads(done.stdout)
    assert pulled["package"] == pushed["package"] == package["package"]
    expected, found = (
        checkout.reprise("predict", path, str(inputs), "--json").stdout for path in (package["path"], pulled["path"])
    )
    assert len(json.loads(found)["predictions"]) == 1000
    assert found == expected


def test_a_package_works_without_its_run_and_its_code(
    checkout: Checkout,
    package: dict[str, Any],
    inputs: Path,
    tmp_path: Path,
) -> None:
    moved = shutil.copytree(package["path"], tmp_path / "elsewhere")
    done = checkout.reprise("predict", str(moved), str(inputs), REPRISE_STORE=str(tmp_path / "no store"))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1000


@pytest.mark.parametrize("name", FILES)
def test_a_package_with_one_altered_bit_is_rejected(
    checkout: Checkout,
    package: dict[str, Any],
    inputs: Path,
    tmp_path: Path,
    name: str,
) -> None:
    moved = shutil.copytree(package["path"], tmp_path / "altered")
    body = bytearray((moved / name).read_bytes())
    body[len(body) // 2] ^= 1
    (moved / name).write_bytes(body)
    done = checkout.reprise("predict", str(moved), str(inputs))
    assert (done.returncode, name in done.stderr) == (55, True), done.stderr
    assert not done.stdout


def test_predictions_of_a_killed_command_are_completed(
    checkout: Checkout, package: dict[str, Any], tmp_path: Path
) -> None:
    folder, whole, killed = tmp_path / "in", tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    folder.mkdir()
    for number in range(3):
        values = np.random.default_rng(number).random((5_000, 1, 4, 4), dtype=np.float32)
        np.save(folder / f"{number}.npy", values)
    (folder / "broken.npy").write_bytes(b"text")
    (folder / ".hidden").write_bytes(b"left out")
    done = checkout.reprise("predict", package["path"], str(folder), "--output", str(whole))
    assert (done.returncode, "15,000 samples of 4 files" in done.stdout) == (44, True), done.stderr
    command = [checkout.python, "-m", "trainer", "predict", package["path"], str(folder), f"--output={killed}"]
    process = subprocess.Popen(command, cwd=checkout.root, env=checkout.environ, stderr=subprocess.DEVNULL)
    while not any(each.stat().st_size > 700_000 for each in tmp_path.glob("killed.jsonl.*.partial")):
        sleep(0.005)
        assert process.poll() is None
    process.kill()
    process.wait()
    assert not killed.exists()
    done = checkout.reprise(*command[3:])
    assert (done.returncode, "by an earlier command" in done.stdout) == (44, True), done.stderr
    assert killed.read_bytes() == whole.read_bytes()
    lines = [json.loads(line) for line in whole.read_text().splitlines()]
    assert [Path(line["file"]).name for line in lines if "error" in line] == ["broken.npy"]
    assert checkout.reprise(*command[3:]).returncode == 2, "an existing file is kept"


def test_a_net_that_splits_its_batches_itself_is_packaged_for_tensors(checkout: Checkout, inputs: Path) -> None:
    (checkout.root / "height.py").write_text(_REGRESSION)
    code, _, err = checkout.train("--exp", "height.py")
    assert code == 0, err
    found = packaged(checkout, checkout.last()[0].parents[1].name)
    assert found["certificate"]["holds"]
    assert found["certificate"]["test"]["identical"]
    done = checkout.reprise("predict", found["path"], str(inputs), "--json")
    assert done.returncode == 0, done.stderr
    of_run = checkout.reprise("predict", checkout.last()[0].parents[1].name, str(inputs), "--json")
    assert json.loads(done.stdout)["predictions"] == json.loads(of_run.stdout)["predictions"]
    np.save(inputs, np.zeros((3, 4, 4), dtype=np.float32))
    done = checkout.reprise("predict", found["path"], str(inputs))
    assert (done.returncode, "expected samples of float32 [1, 4, 4]" in done.stderr) == (44, True), done.stderr


def test_the_graph_of_a_run_has_equal_bytes_each_time_and_is_left_out_on_request(
    checkout: Checkout, package: dict[str, Any]
) -> None:
    run = json.loads((Path(package["path"]) / "package.json").read_bytes())["run"]
    again, without = packaged(checkout, run, "--onnx", "required"), packaged(checkout, run, "--onnx", "off")
    graphs = [(Path(each["path"]) / "model.onnx").read_bytes() for each in (package, again)]
    assert graphs[0] == graphs[1]
    for each in ("model.pt2", "model.onnx"):
        assert not [text for text in (b".py", b"line ") if text in (Path(package["path"]) / each).read_bytes()]
    assert not (Path(without["path"]) / "model.onnx").exists()
    assert not {"onnx", "onnx_omitted"} & without["certificate"].keys()


def test_a_net_that_onnx_cannot_express_is_packaged_without_a_graph_and_the_reason_is_shown(checkout: Checkout) -> None:
    net = "import torch\n" + _REGRESSION.replace(
        "self.layers(images)[:, 0]", "torch.lgamma(1 + self.layers(images)[:, 0].abs())"
    )
    (checkout.root / "bent.py").write_text(net)
    code, _, err = checkout.train("--exp", "bent.py")
    assert code == 0, err
    run = checkout.last()[0].parents[1].name
    found = packaged(checkout, run)
    assert found["certificate"]["holds"]
    assert "lgamma" in found["certificate"]["onnx_omitted"]
    assert not (Path(found["path"]) / "model.onnx").exists()
    shown = checkout.reprise("packages", "show", found["path"])
    assert "onnx        no ONNX graph: " in shown.stdout
    done = checkout.reprise("package", run, "--onnx", "required")
    assert (done.returncode, "lgamma" in done.stderr) == (91, True), done.stderr


def test_a_plain_module_is_packaged(checkout: Checkout, inputs: Path) -> None:
    (checkout.root / "plain.py").write_text(PLAIN)
    words = ("--exp", "plain.py", "--dataset", "dots", "--max-epochs", "1", "--batch-size", "8")
    code, _, err = checkout.train(*words)
    assert code == 0, err
    found = packaged(checkout, checkout.last()[0].parents[1].name)
    assert found["certificate"]["holds"]
    assert [each["name"] for each in found["certificate"]["metrics"]] == ["test_loss"]
    done = checkout.reprise("predict", found["path"], str(inputs), "--json")
    assert len(json.loads(done.stdout)["predictions"][0]["answer"]["output"]) == 2


_SCALED_BY_STEP = PLAIN.replace('F.cross_entropy(self(batch["image"])', 'F.cross_entropy(self(batch["image"] * 2 - 1)')
_SCALED_BY_HOOK = f"""{PLAIN}
    def on_after_batch_transfer(self, batch, index):
        return {{**batch, "image": batch["image"] * 2 - 1}}

    def on_save_checkpoint(self, checkpoint):
        checkpoint["seen"] = 3

    def on_load_checkpoint(self, checkpoint):
        self.seen = checkpoint["seen"]
"""


@pytest.mark.parametrize("net", [_SCALED_BY_STEP, _SCALED_BY_HOOK], ids=["by the step", "by a hook"])
def test_a_plain_module_that_changes_a_field_before_forward_is_packaged_for_tensors(
    checkout: Checkout, inputs: Path, net: str
) -> None:
    (checkout.root / "scaled.py").write_text(net.replace('"test_loss"', '"test/loss"'))
    words = ("--exp", "scaled.py", "--dataset", "dots", "--max-epochs", "1", "--batch-size", "8")
    code, _, err = checkout.train(*words)
    assert code == 0, err
    run = checkout.last()[0].parents[1].name
    done = checkout.reprise("predict", run, str(inputs), "--json")
    assert "dots@1 as they were published: a step or a hook of the module that changes them" in done.stderr
    assert ("so on_load_checkpoint is not called" in done.stderr) == ("on_load_checkpoint" in net)
    done = checkout.reprise("package", run, "--json")
    assert "the test changes image before it calls forward" in done.stderr
    found = json.loads(done.stdout)
    assert "dataset" not in found
    assert [each["name"] for each in found["certificate"]["metrics"]] == ["test/loss"]
