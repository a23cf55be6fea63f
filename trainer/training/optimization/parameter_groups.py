"""Fine-tuning by patterns of the names of parameters: which are frozen, and which have their own learning rate.

A pattern has the form of a file name pattern: `body.*` matches `body.0.weight`. A pattern that matches nothing is an error.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from torch.nn.modules.batchnorm import _BatchNorm

from trainer.base.errors import ExperimentError, SettingError
from trainer.base.suggestions import did_you_mean, listed
from trainer.settings.ledger import configured

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn
    from torch.optim import Optimizer


@configured
def freeze(net: nn.Module, *, frozen: list[str]) -> None:
    """Freeze the parameters that the setting `frozen` matches; a batch norm whose parameters are all frozen also keeps its statistics.

    Raise `SettingError` for a pattern that matches no parameter.
    """
    names = frozen_names(net, frozen)
    for name, parameter in net.named_parameters():
        if name in names:
            parameter.requires_grad = False
    for prefix, module in net.named_modules():
        if isinstance(module, _BatchNorm) and _is_covered(prefix, module, names):
            module.eval()


def _is_covered(prefix: str, module: nn.Module, names: set[str]) -> bool:
    own = [f"{prefix}.{name}" if prefix else name for name, _ in module.named_parameters()]
    return bool(own) and names.issuperset(own)


def frozen_names(net: nn.Module, frozen: Iterable[str]) -> set[str]:
    """Return the names of the parameters that the patterns match; raise `SettingError` for a pattern that matches no parameter."""
    return {name for pattern in frozen for name in _matched(net, pattern, setting="frozen")}


@configured
def trained_parameters(
    net: nn.Module, modules: Sequence[nn.Module] = (), *, frozen: list[str], learning_rates: dict[str, float]
) -> list[Any]:
    """Return the trained parameters for an optimizer, in groups if some have their own learning rate.

    With `modules`, only their parameters are returned. The first group has the parameters without their own learning rate. Raise
    `SettingError` for a pattern that matches no trained parameter, and for two patterns that match the same parameter: a record does not
    keep the order of a table.
    """
    excluded = frozen_names(net, frozen)
    rest = {name: each for name, each in net.named_parameters() if name not in excluded}
    others = {id(each) for each in rest.values()} - {id(each) for module in modules for each in module.parameters()}
    elsewhere = {name for name, each in rest.items() if modules and id(each) in others}
    rest = {name: each for name, each in rest.items() if name not in elsewhere}
    if not learning_rates:
        return [*rest.values()]
    groups, owners = [], dict[str, str]()
    for pattern in sorted(learning_rates):
        names = [name for name in _matched(net, pattern, setting="learning_rates") if name not in excluded]
        if not names:
            message = f"setting learning_rates: {pattern!r} matches only frozen parameters"
            raise SettingError(message, hint="remove the pattern from learning_rates or from frozen")
        if twice := next((name for name in names if name in owners), None):
            message = f"setting learning_rates: {owners[twice]!r} and {pattern!r} both match {twice}"
            raise SettingError(message, hint="change the patterns so that only one matches each parameter")
        owners |= dict.fromkeys(names, pattern)
        if mine := [rest.pop(name) for name in names if name not in elsewhere]:
            groups.append({"params": mine, "lr": learning_rates[pattern]})
    return [*([{"params": [*rest.values()]}] if rest else []), *groups]


def require_one_optimizer_each(net: nn.Module, optimizers: Sequence[Optimizer]) -> None:
    """Raise `ExperimentError` unless each trained parameter is in exactly one of the net's optimizers."""
    owners = [{id(each) for group in one.param_groups for each in group["params"]} for one in optimizers]
    for name, parameter in net.named_parameters():
        count = sum(id(parameter) in owner for owner in owners)
        if parameter.requires_grad and count != 1:
            message = f"{type(net).__name__}.optimized_modules: parameter {name} is in {count} optimizers"
            raise ExperimentError(
                message,
                hint="list each module that has trainable parameters exactly once; the setting frozen excludes parameters",
            )


def _matched(net: nn.Module, pattern: str, *, setting: str) -> list[str]:
    names = [name for name, _ in net.named_parameters()]
    if found := [name for name in names if fnmatchcase(name, pattern)]:
        return found
    modules = [
        f"{name}.*" for name, module in net.named_modules() if name and next(module.parameters(), None) is not None
    ]
    message = f"setting {setting}: {pattern!r} matches no parameter of {type(net).__name__}, which has {listed(names)}"
    raise SettingError(message, hint=did_you_mean(pattern, [*names, *modules]))
