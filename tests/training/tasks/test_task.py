"""Tasks reject outputs and targets of a wrong shape or type; the error states the expected and the found form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from trainer.base.errors import DatasetError, ExperimentError, SettingError
from trainer.settings.ledger import Ledger, use_ledger
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.readers.inspect import inspect_blocks
from trainer.training.readers.samples import SampleBlock
from trainer.training.tasks.classification import ClassificationSettings, Classifier
from trainer.training.tasks.fit_checks import try_out
from trainer.training.tasks.regression import Regressor

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.data.inspection import Inspection
    from trainer.training.tasks.task import Task

pytestmark = pytest.mark.torch
IMAGES = torch.rand(2, 1, 4, 4)
LABELS = torch.tensor([0, 1])


class Settings(ClassificationSettings):
    """The settings for three classes."""

    dataset: str = "dots"
    classes: int = 3


def make_net(kind: type[Task], forward: Callable[[torch.Tensor], object]) -> Task:
    net: Task = type("Net", (kind,), {"forward": lambda _, images: forward(images)})()
    with use_ledger(Ledger(resolve(Settings, Origins(options=parse_options([]), environ={})))):
        net.setup("fit")
    return net


def make_inspection(**labels: list[int]) -> Inspection:
    ends = np.cumsum([0, *map(len, labels.values())])
    rows = {name: np.arange(ends[at], ends[at + 1]) for at, name in enumerate(labels)}
    blocks = [SampleBlock(rows=rows[name], fields={"label": np.array(each)}) for name, each in labels.items()]
    return inspect_blocks(blocks, rows, name=lambda row: f"row {row}")


@pytest.mark.parametrize(
    ("kind", "forward", "expected", "error", "message"),
    [
        (
            Classifier,
            lambda x: x.flatten(1)[:, :2],
            LABELS,
            ExperimentError,
            r"float32 \[2, 2\]; expected float \[2, 3\]",
        ),
        (
            Classifier,
            lambda x: x.flatten(1)[:, :3].argmax(1),
            LABELS,
            ExperimentError,
            r"returns int64 \[2\]; expected",
        ),
        (Classifier, lambda x: (x, x), LABELS, ExperimentError, "Net.forward returns a tuple; expected float"),
        (Classifier, lambda x: x, LABELS.float(), DatasetError, r"labels are float32 \[2\]; .* expects integers"),
        (Regressor, lambda x: x.flatten(1)[:, :1], LABELS.float(), ExperimentError, r"\[2, 1\]; expected float \[2\]"),
        (Regressor, lambda x: x, LABELS, DatasetError, r"targets are int64 \[2\]; a regression expects float32"),
    ],
)
def test_outputs_and_labels_that_do_not_match_are_rejected(
    kind: type[Task],
    forward: Callable[[torch.Tensor], object],
    expected: torch.Tensor,
    error: type[Exception],
    message: str,
) -> None:
    net = make_net(kind, forward)
    with pytest.raises(error, match=message):
        try_out(net, {"image": IMAGES, "label": expected})


def test_the_trial_pass_does_not_change_the_net() -> None:
    body = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 3))
    net = make_net(Classifier, body)
    net.add_module("body", body)
    body[0].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    try_out(net, {"image": IMAGES, "label": LABELS})
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert (net.training, body.training, body[0].training, body[2].training) == (True, True, False, True)


def test_labels_of_every_split_are_compared_with_the_nets_scores() -> None:
    net = make_net(Classifier, lambda x: x)
    assert net.check_values(make_inspection(train=[0, 2, 1], test=[1])) == []
    with pytest.raises(
        SettingError, match=r"1 sample of split test has the label 7 \(row 4\); the net gives scores for 3"
    ) as caught:
        net.check_values(make_inspection(train=[0, 2, 1], test=[1, 7]))
    assert caught.value.hint == "set classes to 8 or more"


@pytest.mark.parametrize(
    ("expected", "message", "hint"),
    [
        (LABELS[:, None], r"labels are int64 \[2, 1\]; expected int64 \[batch\]", "labels.reshape(-1)"),
        (torch.eye(2, 3).long(), r"labels are int64 \[2, 3\]; expected int64 \[batch\]", "argmax(axis=1)"),
        (LABELS[:, None, None], r"labels are int64 \[2, 1, 1\]; expected int64 \[batch\]", "labels.reshape(-1)"),
        (LABELS.double(), r"labels are float64 \[2\]; a classification expects integers", "astype('int64')"),
        (LABELS + 0.5, r"labels are float32 \[2\]; a classification expects integers", "--target-field"),
        (LABELS.to(torch.uint64), r"labels are uint64 \[2\]; a classification expects integers", "astype('int64')"),
    ],
)
def test_labels_of_a_wrong_shape_or_type_are_reported_instead_of_the_net(
    expected: torch.Tensor, message: str, hint: str
) -> None:
    net = make_net(Classifier, lambda x: x.flatten(1)[:, :3])
    with pytest.raises(DatasetError, match=message) as caught:
        try_out(net, {"image": IMAGES, "label": expected})
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.uint8, torch.int64, torch.bool])
def test_an_unsupported_input_type_is_named_with_the_line_to_add(dtype: torch.dtype) -> None:
    layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    net = make_net(Classifier, layers)
    net.add_module("layers", layers)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(
        DatasetError, match=rf"field 'image' is {name} \[2, 1, 4, 4\], but the layers of Net take float32"
    ) as caught:
        try_out(net, {"image": IMAGES.to(dtype), "label": LABELS})
    assert "x = x.float()" in str(caught.value.hint)


def test_an_unsupported_index_type_of_an_embedding_is_named() -> None:
    layers = nn.Sequential(nn.Embedding(4, 2), nn.Flatten(), nn.Linear(8, 3))
    net = make_net(Classifier, layers)
    net.add_module("layers", layers)
    with pytest.raises(DatasetError, match="take int64") as caught:
        try_out(net, {"image": torch.ones(2, 4), "label": LABELS})
    assert "x = x.long()" in str(caught.value.hint)


def test_an_unrelated_failure_of_the_net_keeps_its_message() -> None:
    net = make_net(Classifier, lambda x: x.reshape(7, 7))
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        try_out(net, {"image": IMAGES.double(), "label": LABELS})


def test_a_custom_validation_step_without_metrics_is_named() -> None:
    net = make_net(Classifier, lambda images: images.flatten(1)[:, :3])
    with pytest.raises(ExperimentError, match=r"Net\.validation_step measures nothing") as error:
        net.on_validation_epoch_end()
    assert error.value.hint == "call super().validation_step(batch, index) in it, or remove it"
