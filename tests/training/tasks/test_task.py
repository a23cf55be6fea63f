"""What a task refuses: outputs and targets of another shape or type, by a line that names what was expected and found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from trainer.errors import DatasetError, ExperimentError, SettingError
from trainer.ledger import Ledger, kept
from trainer.origins import Origins, resolve, take_apart
from trainer.training.tasks.classification import ClassificationSettings, Classifier
from trainer.training.tasks.fitting import try_out
from trainer.training.tasks.regression import Regressor

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.training.tasks.task import Task

pytestmark = pytest.mark.torch
IMAGES = torch.rand(2, 1, 4, 4)
LABELS = torch.tensor([0, 1])


class Settings(ClassificationSettings):
    """Three classes."""

    dataset: str = "dots"
    classes: int = 3


def net_of(kind: type[Task], forward: Callable[[torch.Tensor], object]) -> Task:
    """A net whose `forward` is a function."""
    net: Task = type("Net", (kind,), {"forward": lambda _, images: forward(images)})()
    with kept(Ledger(resolve(Settings, Origins(words=take_apart([]), environ={})))):
        net.setup("fit")
    return net


@pytest.mark.parametrize(
    ("kind", "forward", "wanted", "fault", "said"),
    [
        (
            Classifier,
            lambda x: x.flatten(1)[:, :2],
            LABELS,
            ExperimentError,
            r"float32 \[2, 2\]; expected float \[2, 3\]",
        ),
        (Classifier, lambda x: x.flatten(1)[:, :3].argmax(1), LABELS, ExperimentError, r"gives int64 \[2\]; expected"),
        (Classifier, lambda x: (x, x), LABELS, ExperimentError, "Net.forward gives a tuple; expected float"),
        (Classifier, lambda x: x, LABELS.float(), DatasetError, r"labels are float32 \[2\]; .* expects int64"),
        (Regressor, lambda x: x.flatten(1)[:, :1], LABELS.float(), ExperimentError, r"\[2, 1\]; expected float \[2\]"),
        (Regressor, lambda x: x, LABELS, DatasetError, r"targets are int64 \[2\]; a regression expects float32"),
    ],
)
def test_what_does_not_fit_is_refused(
    kind: type[Task], forward: Callable[[torch.Tensor], object], wanted: torch.Tensor, fault: type[Exception], said: str
) -> None:
    """Before the first step, and at any later one."""
    net = net_of(kind, forward)
    with pytest.raises(fault, match=said):
        try_out(net, {"image": IMAGES, "label": wanted})


def test_a_net_that_is_tried_out_stays_as_it_was() -> None:
    """Its modes, part by part, and what batch normalisation knows."""
    body = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 3))
    net = net_of(Classifier, body)
    net.add_module("body", body)
    body[0].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    try_out(net, {"image": IMAGES, "label": LABELS})
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert (net.training, body.training, body[0].training, body[2].training) == (True, True, False, True)


def test_a_label_beyond_the_classes_is_found_before_the_first_step() -> None:
    """Wherever in the dataset it is; the message names the setting."""
    net = net_of(Classifier, lambda x: x)

    with pytest.raises(SettingError, match="has the label 7; the net gives scores for 3 classes") as caught:
        net.check_labels([0, 7, 1])
    assert caught.value.hint == "set classes to 8 or more"
