"""Programs from untrusted users: parts that could run code are rejected, and their code is not run."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from typing import TYPE_CHECKING, Any, Final

import pytest

pytest.importorskip("torch")

import torch

from trainer.base.errors import DocumentError
from trainer.models.program_file import read_program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.torch
MODEL: Final = "models/model.json"
INPUTS: Final = "data/sample_inputs/model.pt"
WEIGHTS: Final = "data/weights/model_weights_config.json"


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: Any) -> dict[str, Any]:
        return {"output": self.layer(x.reshape(x.shape[0], -1)) * self.scale}


class Evil:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def saved() -> tuple[Net, bytes]:
    """A net, and its program for any number of samples."""
    net, body = Net().eval(), io.BytesIO()
    shapes = {"x": {0: torch.export.Dim.AUTO}}
    torch.export.save(torch.export.export(net, (torch.ones(4, 3),), dynamic_shapes=shapes), body)
    return net, body.getvalue()


def changed(data: bytes, change: Callable[[dict[str, bytes]], object]) -> bytes:
    """Return the archive with changed parts."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        top = source.namelist()[0].partition("/")[0]
        parts = {name.partition("/")[2]: source.read(name) for name in source.namelist()}
    change(parts)
    with zipfile.ZipFile(target, "w") as copy:
        for path, body in parts.items():
            copy.writestr(f"{top}/{path}", body)
    return target.getvalue()


def edited(parts: dict[str, bytes], path: str, old: str, new: str) -> None:
    text = parts[path].decode()
    assert old in text
    parts[path] = text.replace(old, new).encode()


def test_a_program_predicts_as_its_net_for_any_number_of_samples(saved: tuple[Net, bytes]) -> None:
    net, data = saved
    program = read_program(data, where="model.pt2").module()
    for count in (1, 4, 7):
        given = torch.rand(count, 3)
        assert torch.equal(program(given)["output"], net(given)["output"])


def test_pickled_inputs_are_left_out(saved: tuple[Net, bytes], tmp_path: Path) -> None:
    data = changed(saved[1], lambda parts: parts.update({INPUTS: pickle.dumps(Evil(tmp_path / "made"))}))
    read_program(data, where="model.pt2").module()(torch.rand(2, 3))
    assert not (tmp_path / "made").exists()


def test_a_pickled_weight_is_rejected(saved: tuple[Net, bytes], tmp_path: Path) -> None:
    def change(parts: dict[str, bytes]) -> None:
        config = json.loads(parts[WEIGHTS])
        next(iter(config["config"].values()))["use_pickle"] = True
        parts[WEIGHTS] = json.dumps(config).encode()
        parts["data/weights/weight_0"] = pickle.dumps(Evil(tmp_path / "made"))

    with pytest.raises(DocumentError, match=r"is pickled"):
        read_program(changed(saved[1], change), where="model.pt2")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("torch.ops.aten.linear.default", "torch.os.system", "the operator 'torch.os.system'"),
        ("torch.ops.aten.linear.default", "torch.hub.load", "the operator 'torch.hub.load'"),
        ("torch.ops.aten.linear.default", "torch.ops.load_library", "the operator"),
        ('"builtins.dict"', '"collections.defaultdict"', "the container 'collections.defaultdict'"),
    ],
)
def test_operators_and_containers_outside_of_the_lists_are_rejected(
    saved: tuple[Net, bytes], old: str, new: str, match: str
) -> None:
    escaped = json.dumps(old)[1:-1] if old.startswith('"') else old
    replacement = json.dumps(new)[1:-1] if new.startswith('"') else new
    data = changed(saved[1], lambda parts: edited(parts, MODEL, escaped, replacement))
    with pytest.raises(DocumentError, match=match):
        read_program(data, where="model.pt2")


def test_an_expression_that_is_python_is_rejected(saved: tuple[Net, bytes], tmp_path: Path) -> None:
    def change(parts: dict[str, bytes]) -> None:
        content = json.loads(parts[MODEL])
        waiting: list[Any] = [content]
        while waiting:
            each = waiting.pop()
            if isinstance(each, dict):
                if "expr_str" in each:
                    each["expr_str"] = f"__import__('os').mkdir('{tmp_path / 'made'}')"
                waiting.extend(each.values())
            elif isinstance(each, list):
                waiting.extend(each)
        parts[MODEL] = json.dumps(content).encode()

    with pytest.raises(DocumentError, match="the expression"):
        read_program(changed(saved[1], change), where="model.pt2")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "path",
    ["data/aotinductor/model/a.so", "data/constants/opaque_obj_0", "data/constants/model.pt", "../outside", "extra/a"],
)
def test_parts_that_a_program_does_not_need_are_rejected(saved: tuple[Net, bytes], path: str) -> None:
    data = changed(saved[1], lambda parts: parts.update({path: b"code"}))
    with pytest.raises(DocumentError, match="it has the part"):
        read_program(data, where="model.pt2")


@pytest.mark.parametrize("data", [b"", b"text", pickle.dumps([1])])
def test_other_files_are_rejected(data: bytes) -> None:
    with pytest.raises(DocumentError, match="is not an archive of a program"):
        read_program(data, where="model.pt2")
