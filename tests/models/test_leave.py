"""The blocks of docs/how-to/leave.md: outside of Reprise, models of several kinds reproduce their golden outputs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import onnxruntime
from safetensors.numpy import load_file

from tests.models import kinds
from tests.training.logs.test_mlflow_run import REQUIREMENTS
from tests.venvs import make_client

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]
PAGE: Final = (Path(__file__).parents[2] / "docs/how-to/leave.md").read_text(encoding="utf-8")
EVERY_TIME: Final = "sequences"
"""The kind of model that each test run packages: its samples vary in length. Other kinds are packaged in campaigns."""
PLACEHOLDER: Final = "sha256:4f0c..."
ALONE: Final = """
import sys
from safetensors.numpy import save_file
assert not [name for name in sys.modules if name.split(".")[0] == "trainer"]
save_file({name: __import__("numpy").asarray(each) for name, each in outputs.items()}, sys.argv[1])
"""
"""Code that a test appends to a block of the page: it requires that no module of Reprise was imported, and writes the outputs to a file."""

PARSE: Final = """
import pathlib, sys
import tritonclient
sys.path.insert(0, str(pathlib.Path(next(iter(tritonclient.__path__)), "grpc")))
import model_config_pb2
from google.protobuf import json_format, text_format
config = text_format.Parse(pathlib.Path("models/net/config.pbtxt").read_text(), model_config_pb2.ModelConfig())
print(json_format.MessageToJson(config))
"""


def block(section: str) -> str:
    """Return the Python block of a section of the page."""
    (text,) = [part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE) if part.startswith(f"{section}\n")]
    (found,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return str(found)


def execute(code: str, folder: Path, *words: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run Python code in a folder, with an interpreter that cannot import from the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "REPRISE"))}
    return subprocess.run(
        [python, "-I", "-c", code, *words], cwd=folder, env=kept, capture_output=True, text=True, check=False
    )


def require_golden(code: str, folder: Path, scratch: Path, **words: str) -> None:
    """Run a block in the folder of a package, and compare its outputs with the golden ones."""
    done = execute(code + ALONE, folder, str(scratch / "outputs"), **words)
    assert done.returncode == 0, done.stderr
    golden, found = load_file(folder / "golden.safetensors"), load_file(scratch / "outputs")
    expected = {name.removeprefix("output/"): each for name, each in golden.items() if name.startswith("output/")}
    assert found.keys() == expected.keys()
    for name, each in expected.items():
        assert (found[name].shape, found[name].dtype) == (each.shape, each.dtype)
        assert abs(found[name] - each).max() <= 1e-4 * abs(each).max()


@pytest.fixture(
    scope="module",
    params=[each if each == EVERY_TIME else pytest.param(each, marks=pytest.mark.long) for each in kinds.KINDS],
)
def package(
    request: pytest.FixtureRequest, checkout: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The package of a trained model of each kind."""
    run = kinds.train(checkout, request.param, tmp_path_factory.mktemp("data"))
    done = checkout.reprise("package", run, "--onnx", "required", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_package_predicts_in_onnxruntime(package: dict[str, Any], tmp_path: Path) -> None:
    require_golden(block("ONNX"), Path(package["path"]), tmp_path)


def test_a_package_predicts_in_torch_after_its_files_are_checked(package: dict[str, Any], tmp_path: Path) -> None:
    check = block("Check the files").replace(PLACEHOLDER, package["package"])
    require_golden(check + block("Torch"), Path(package["path"]), tmp_path)
    assert "another package" in execute(block("Check the files"), Path(package["path"])).stderr


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a Python with Triton's own schema of its configuration."""
    return make_client(tmp_path_factory.mktemp("triton"), Path(__file__).with_name("triton.txt"))


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a Python with MLflow."""
    return make_client(tmp_path_factory.mktemp("mlflow"), REQUIREMENTS)


@pytest.mark.index
def test_a_repository_for_triton_describes_the_graph_exactly(
    package: dict[str, Any], triton: str, tmp_path: Path
) -> None:
    """Triton rejects a configuration whose shapes differ from those of the graph, even if only a variable length differs."""
    folder = Path(shutil.copytree(package["path"], tmp_path / "package"))
    done = execute(block("Triton"), folder)
    assert done.returncode == 0, done.stderr
    require_golden(block("ONNX").replace("model.onnx", "models/net/1/model.onnx"), folder, tmp_path)
    done = execute(PARSE, folder, python=triton)
    assert done.returncode == 0, done.stderr
    config = json.loads(done.stdout)
    session = onnxruntime.InferenceSession(folder / "models/net/1/model.onnx", providers=["CPUExecutionProvider"])
    assert (config["backend"], config["maxBatchSize"]) == ("onnxruntime", 64)
    assert [described(each) for each in config["input"]] == [of_graph(each) for each in session.get_inputs()]
    assert [described(each) for each in config["output"]] == [of_graph(each) for each in session.get_outputs()]


def described(tensor: dict[str, Any]) -> tuple[str, str, list[int]]:
    """Return the name, type and shape without the axis of samples of a tensor of a configuration."""
    dims = tensor["reshape"].get("shape", []) if "reshape" in tensor else tensor["dims"]
    return tensor["name"], tensor["dataType"], [int(length) for length in dims]


def of_graph(tensor: Any) -> tuple[str, str, list[int]]:
    types = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64", "tensor(uint8)": "TYPE_UINT8"}
    samples, *lengths = tensor.shape
    assert not isinstance(samples, int)
    return tensor.name, types[tensor.type], [length if isinstance(length, int) else -1 for length in lengths]


@pytest.mark.index
@pytest.mark.long
def test_a_package_predicts_in_mlflow(package: dict[str, Any], mlflow: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(package["path"], tmp_path / "package"))
    require_golden(block("MLflow"), folder, tmp_path, python=mlflow)
    assert (folder / "mlflow-model/MLmodel").is_file()
