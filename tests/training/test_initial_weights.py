"""Loading the tensors of a file into a new net: what fits, what is renamed, and what is rejected before the first step."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file
from torch import nn

from tests.small_training import CLASSIFIER, Small
from trainer.base.digest import digest_of_file
from trainer.base.errors import DigestMismatchError, DocumentError, SettingError
from trainer.training.initial_weights import WeightsFile, load_initial_weights

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.runs.record import LoadedWeights

pytestmark = pytest.mark.torch
load: Any = inspect.unwrap(load_initial_weights)


class Net(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
        self.head = nn.Linear(5, classes)


def file_of(path: Path, tensors: dict[str, torch.Tensor]) -> WeightsFile:
    save_file({name: value.clone() for name, value in tensors.items()}, path)
    return WeightsFile(path=path, title="run P")


def fitted(
    net: nn.Module, given: WeightsFile | None, *, rename: dict[str, str] | None = None, allow: tuple[str, ...] = ()
) -> tuple[LoadedWeights, list[str]]:
    said: list[str] = []
    return load(net, given, said.append, init_map=rename or {}, init_allow=allow), said


def rejected(net: nn.Module, given: WeightsFile | None, **options: Any) -> SettingError:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(SettingError) as caught:
        fitted(net, given, **options)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert "\n" not in caught.value.message
    return caught.value


def test_every_tensor_is_loaded_and_counted(tmp_path: Path) -> None:
    other, net = Net(), Net()
    report, said = fitted(net, file_of(tmp_path / "w", other.state_dict()))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in net.state_dict().items())
    assert (report.loaded, report.missing, report.unexpected, report.reshaped) == (9, [], [], [])
    assert said == ["initial weights: 9 tensors of run P"]


def test_no_random_number_is_drawn(tmp_path: Path) -> None:
    net, given = Net(), file_of(tmp_path / "w", Net().state_dict())
    before = torch.get_rng_state()
    fitted(net, given)
    assert torch.equal(torch.get_rng_state(), before)


def test_differences_are_rejected_in_a_sentence_with_what_to_type(tmp_path: Path) -> None:
    tensors = {name.replace("head", "fc"): value for name, value in Net().state_dict().items()}
    error = rejected(Net(), file_of(tmp_path / "w", tensors))
    assert error.message == (
        "the tensors of run P do not fit the net: missing: head.weight, head.bias; unexpected: fc.bias, fc.weight"
    )
    assert error.hint == "rename them: --init-map fc=head; or accept it: --init-allow missing,unexpected"


def test_another_shape_is_rejected_with_both_shapes(tmp_path: Path) -> None:
    error = rejected(Net(), file_of(tmp_path / "w", Net(7).state_dict()))
    assert "reshaped: head.weight (float32[7,5] in the file, float32[3,5] in the net)" in error.message
    assert error.hint == "to accept it: --init-allow reshaped"


def test_allowed_differences_are_reported_and_keep_their_initial_values(tmp_path: Path) -> None:
    net = Net()
    before = net.head.weight.detach().clone()
    report, said = fitted(net, file_of(tmp_path / "w", Net(7).state_dict()), allow=("reshaped",))
    assert torch.equal(net.head.weight, before)
    assert (report.loaded, report.reshaped) == (7, ["head.weight", "head.bias"])
    assert said[1].startswith("  reshaped: head.weight (float32[7,5] in the file")


@pytest.mark.parametrize("rename", [{"net.module": ""}, {"net.module.": ""}, {"net": "other", "net.module": ""}])
def test_the_longest_beginning_is_renamed(tmp_path: Path, rename: dict[str, str]) -> None:
    tensors = {f"net.module.{name}": value for name, value in Net().state_dict().items()}
    given = file_of(tmp_path / "w", tensors)
    if len(rename) > 1:
        assert "renames 'net'" in rejected(Net(), given, rename=rename).message
    else:
        assert fitted(Net(), given, rename=rename)[0].loaded == 9


def test_an_empty_beginning_renames_every_tensor(tmp_path: Path) -> None:
    net = nn.ModuleDict({"net": Net()})
    assert fitted(net, file_of(tmp_path / "w", Net().state_dict()), rename={"": "net"})[0].loaded == 9


def test_a_beginning_ends_at_a_point(tmp_path: Path) -> None:
    error = rejected(Net(), file_of(tmp_path / "w", Net().state_dict()), rename={"hea": "x"})
    assert error.message == "setting init_map renames 'hea', but no tensor of run P begins with it"
    assert error.hint == "did you mean head?"


def test_two_tensors_of_one_name_are_rejected(tmp_path: Path) -> None:
    error = rejected(Net(), file_of(tmp_path / "w", Net().state_dict()), rename={"body.0": "head"})
    assert "renames two tensors of run P to head." in error.message


def test_nothing_in_common_is_rejected_even_if_all_is_allowed(tmp_path: Path) -> None:
    given = file_of(tmp_path / "w", {"x": torch.zeros(1)})
    assert rejected(Net(), given, allow=("missing", "unexpected")).message.startswith("no tensor of run P fits the net")


def test_integers_are_not_loaded_into_floats_in_silence(tmp_path: Path) -> None:
    tensors = Net().state_dict() | {"body.1.num_batches_tracked": torch.tensor(2.5)}
    error = rejected(Net(), file_of(tmp_path / "w", tensors))
    assert "num_batches_tracked (float32[] in the file, int64[] in the net)" in error.message


def test_half_precision_is_loaded_into_single(tmp_path: Path) -> None:
    net, tensors = (
        Net(),
        {name: value.half() if value.is_floating_point() else value for name, value in Net().state_dict().items()},
    )
    fitted(net, file_of(tmp_path / "w", tensors))
    assert torch.equal(net.head.weight, tensors["head.weight"].float())


@pytest.mark.parametrize(("option", "value"), [("rename", {"a": "b"}), ("allow", ("missing",))])
def test_options_without_weights_are_rejected(option: str, value: Any) -> None:
    assert "but no weights are loaded" in rejected(Net(), None, **{option: value}).message


def test_a_file_with_another_digest_is_rejected(tmp_path: Path) -> None:
    given = file_of(tmp_path / "w", Net().state_dict())
    known = WeightsFile(path=given.path, title="run P", sha256=digest_of_file(given.path))
    assert fitted(Net(), known)[0].loaded == 9
    save_file(Net().state_dict(), given.path)
    with pytest.raises(DigestMismatchError):
        fitted(Net(), known)


def test_a_truncated_file_is_rejected(tmp_path: Path) -> None:
    given = file_of(tmp_path / "w", Net().state_dict())
    given.path.write_bytes(given.path.read_bytes()[:-1])
    with pytest.raises(DocumentError, match="not a safetensors file"):
        fitted(Net(), given)


NORMALIZED = CLASSIFIER.replace("self.layers =", "self.scale = Normalize(4)\n        self.layers =").replace(
    "self.layers(x)", "self.layers(self.scale(x))"
)


def test_a_normalize_keeps_the_statistics_that_were_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from trainer.training.normalization import Normalize\n" + NORMALIZED
    (tmp_path / "one").mkdir()
    one = Small(place=tmp_path / "one", code=code, record=True)
    one.train(monkeypatch)
    assert any("fitted to 'x'" in line for line in one.messages)
    given = WeightsFile(path=one.place / "attempt/weights.safetensors", title="run P")
    (tmp_path / "two").mkdir()
    two = Small(place=tmp_path / "two", code=code, initial=given, record=True)
    two.train(monkeypatch)
    assert "Net.scale keeps the mean and standard deviation of the initial weights" in two.messages
