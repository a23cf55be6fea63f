"""The settings that a plain module's constructor defines, and texts that name classes and datasets."""

from __future__ import annotations

import sys
from collections.abc import Callable  # noqa: TC003 - annotations of constructors are read
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import torch
from torch import nn

from trainer.base.errors import ExperimentError, SettingError
from trainer.data.references import datasets_in, with_folders
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.plain.parameters import object_of, parameters_of, settings_class
from trainer.training.settings import FitSettings

if TYPE_CHECKING:
    from trainer.training.plain.parameters import Parameter

pytestmark = pytest.mark.torch
HERE: Final = sys.modules[__name__]


class Typed:
    """A typical constructor."""

    def __init__(  # type: ignore[no-untyped-def]
        self,
        width: int,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        data_dir: str = "data",
        layers: int = None,  # type: ignore[assignment] # noqa: RUF013 - a common mistake
        activation: Any = nn.ReLU,
        untyped=3,  # noqa: ANN001
        wrong: int = "text",  # type: ignore[assignment]
        net: nn.Module | None = None,
        optimizer: Callable[..., Any] = torch.optim.Adam,
        **more: Any,
    ) -> None: ...


def settings_of(*options: str) -> FitSettings:
    kind = settings_class(FitSettings, parameters_of(Typed), module=__name__, about="A test.")
    return resolve(kind, Origins(options=parse_options(options), environ={})).settings


def test_typed_parameters_are_settings_with_their_defaults() -> None:
    settings = settings_of("--width", "8", "--betas", "[0.5, 0.9]", "--layers", "2")
    values = {name: settings.value_of(name) for name in ("width", "lr", "betas", "data_dir", "layers", "net")}
    assert values == {"width": 8, "lr": 1e-3, "betas": (0.5, 0.9), "data_dir": "data", "layers": 2, "net": None}


def test_parameters_that_cannot_be_settings_keep_their_defaults() -> None:
    names = {each.name for each in parameters_of(Typed)}
    assert names == {"width", "lr", "betas", "data_dir", "layers", "net", "optimizer"}


@pytest.mark.parametrize(
    ("options", "message"), [((), "width"), (("--width", "wide"), "wide"), (("--width", "1", "--widht", "1"), "widht")]
)
def test_a_wrong_value_is_reported_as_for_any_experiment(options: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        settings_of(*options)


def test_a_needed_parameter_without_a_type_is_named_with_its_place() -> None:
    class Net:
        def __init__(self, width) -> None: ...  # type: ignore[no-untyped-def] # noqa: ANN001

    with pytest.raises(ExperimentError, match=r"test_parameters.py:\d+: Net needs width.*it has no type") as raised:
        parameters_of(Net)
    assert "width: int" in (raised.value.hint or "")


def test_a_launch_setting_cannot_be_a_parameter() -> None:
    class Net:
        def __init__(self, threads: int = 1) -> None: ...

    with pytest.raises(ExperimentError, match="parameter threads, which must be known before"):
        settings_class(FitSettings, parameters_of(Net), module=__name__, about="")


def test_a_parameter_shares_the_setting_of_its_name() -> None:
    class Net:
        def __init__(self, max_epochs: int = 7) -> None: ...

    kind = settings_class(FitSettings, parameters_of(Net), module=__name__, about="")
    assert resolve(kind, Origins(options={}, environ={})).settings.value_of("max_epochs") == 7


def settings_of_two(net: type, data: type, *options: str) -> Any:
    kind = settings_class(FitSettings, [*parameters_of(net), *parameters_of(data)], module=__name__, about="")
    return resolve(kind, Origins(options=parse_options(options), environ={})).settings


class WithBatches:
    def __init__(self, batch_size: int = 32) -> None: ...


def test_constructors_with_different_defaults_keep_their_own() -> None:
    class Data:
        def __init__(self, batch_size: int = 64) -> None: ...

    assert settings_of_two(WithBatches, Data).value_of("batch_size") is None
    assert settings_of_two(WithBatches, Data, "--batch-size", "8").value_of("batch_size") == 8


def test_a_value_that_one_constructor_needs_must_be_given() -> None:
    class Data:
        def __init__(self, batch_size: int) -> None: ...

    with pytest.raises(SettingError, match="batch_size"):
        settings_of_two(WithBatches, Data)
    assert settings_of_two(WithBatches, Data, "--batch-size", "8").value_of("batch_size") == 8


def test_a_parameter_of_two_types_is_an_error() -> None:
    class Data:
        def __init__(self, batch_size: str = "many") -> None: ...

    with pytest.raises(ExperimentError, match=r"batch_size has two types: WithBatches .* and Data"):
        settings_of_two(WithBatches, Data)


def test_a_shared_setting_keeps_its_bounds() -> None:
    class Net:
        def __init__(self, max_epochs: int = 7) -> None: ...

    kind = settings_class(FitSettings, parameters_of(Net), module=__name__, about="")
    with pytest.raises(SettingError, match="max_epochs"):
        resolve(kind, Origins(options=parse_options(["--max-epochs", "0"]), environ={}))


def parameter(name: str) -> Parameter:
    return next(each for each in parameters_of(Typed) if each.name == name)


def create_object(name: str, text: str) -> Any:
    return object_of(parameter(name), text, module=HERE, folders={"dots": Path("/cache/dots")})


def test_a_class_is_created_with_its_arguments() -> None:
    net = create_object("net", "torch.nn.Linear(in_features=2, out_features=3, bias=False)")
    assert (net.in_features, net.out_features, net.bias) == (2, 3, None)


def test_an_optimizer_is_created_later_by_the_module() -> None:
    create = create_object("optimizer", "torch.optim.SGD(lr=0.5)")
    optimizer = create(nn.Linear(1, 1).parameters())
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert create_object("optimizer", "torch.optim.SGD") is torch.optim.SGD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("torch.nn.Linaer(in_features=2)", "torch.nn.Linaer does not exist"),
        ("no_such_package.Net()", "no_such_package.Net does not exist"),
        ("torch.nn.Linear(2, 3)", "each of its arguments needs a name"),
        ("torch.nn.Linear(in_features=two)", "named arguments that are numbers"),
        ("torch.nn.Linear(inn=2)", "rejects its arguments"),
        ("a net", "expected a class"),
        ("torch.nn.Linear(in_features=__import__('os').getpid())", "named arguments that are numbers"),
    ],
)
def test_a_wrong_class_text_is_a_setting_error(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        create_object("net", text)


def test_datasets_are_found_in_texts_and_replaced_by_their_folders() -> None:
    values = {"a": "{dataset:dots}/train", "b": [Path("{dataset:more}")], "c": 3}
    assert datasets_in(values) == ["dots", "more"]
    folders = {"dots": Path("/cache/1"), "more": Path("/cache/2")}
    assert with_folders(values, folders) == {"a": "/cache/1/train", "b": [Path("/cache/2")], "c": 3}
