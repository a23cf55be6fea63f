"""An experiment that is a plain, unchanged LightningModule, with or without a LightningDataModule.

The classes are defined in the experiment's file. If the file defines several, the settings `model` and `data` name a class that it defines
or imports; `data` can also be the path of another file.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import lightning as L
from lightning.pytorch.utilities.model_helpers import is_overridden
from pydantic import Field

from trainer.base.errors import ExperimentError, SettingError
from trainer.base.suggestions import did_you_mean, listed
from trainer.data.references import ROLES, datasets_by_role, datasets_in, with_folders
from trainer.settings.hints import option
from trainer.settings.ledger import current
from trainer.training.plain.parameters import (
    Parameter,
    new_settings,
    object_of,
    parameters_of,
    place_of,
    settings_class,
)
from trainer.training.settings import FitSettings, SampleSettings
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from types import ModuleType

NO_FORWARD: Final = "not exportable, because forward is not defined"
_SHOWN: Final = 3
_STEPS: Final = dict(zip(ROLES, ("training_step", "validation_step", "test_step"), strict=True))
_BASES: Final = (L.LightningModule, L.LightningDataModule)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainExperiment:
    """An imported experiment without a task."""

    name: str
    file: Path
    module: ModuleType
    settings: type[FitSettings]
    net: type[L.LightningModule]
    data: type[L.LightningDataModule] | None
    parameters: tuple[Parameter, ...]
    choices: tuple[str, ...] = ()
    """The names of the settings `model` and `data` that were given."""
    unfilled: Mapping[str, str]
    """The parameters that no setting can fill, each with the reason; they keep their defaults."""

    @property
    def reads_fields(self) -> bool:
        """Whether the package's own steps read the fields of samples: always false."""
        return False

    @property
    def reads_samples(self) -> bool:
        """Whether the batches are read from the setting `dataset`: the experiment has no loader."""
        return issubclass(self.settings, SampleSettings)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that a run reads from the setting `dataset`: those for which the module has a step."""
        if not self.reads_samples:
            return ()
        return tuple(
            split for split, step in _STEPS.items() if getattr(self.net, step) is not getattr(L.LightningModule, step)
        )

    def require_fillable(self, given: Collection[str]) -> None:
        """Raise `SettingError` if a given setting names a parameter that no setting fills."""
        if name := next((name for name in given if name in self.unfilled), None):
            raise SettingError(self.unfilled[name], hint=f"correct the constructor, or omit {option(name)}")

    def datasets(self, settings: FitSettings) -> list[str]:
        """Return the names of the datasets that the settings name."""
        names = datasets_in({name: settings.value_of(name) for name in type(settings).__pydantic_fields__})
        own = datasets_by_role(settings.dataset) if isinstance(settings, SampleSettings) else []
        return list(dict.fromkeys([*own, *names]))

    def make_net(self, folders: Mapping[str, Path]) -> L.LightningModule:
        """Return the module; `folders` are the folders of the datasets that settings name."""
        return self.net(**self._arguments(self.net, folders))

    def make_data(self, folders: Mapping[str, Path]) -> L.LightningDataModule | None:
        """Return the data module, if there is one."""
        return None if self.data is None else self.data(**self._arguments(self.data, folders))

    def export_limit(self, net: L.LightningModule) -> str:
        """Return why a run does not guarantee that its net can be exported: a run does not try to, since an export takes seconds."""
        return f"not checked: reprise check {self.name}" if is_overridden("forward", net) else NO_FORWARD

    def _arguments(self, owner: type, folders: Mapping[str, Path]) -> dict[str, Any]:
        ledger = current()
        assert ledger is not None  # noqa: S101 - a training run sets a ledger
        code = inspect.unwrap(owner.__init__).__code__  # type: ignore[misc]
        for name in self.choices:
            ledger.bind(name, to=owner.__qualname__, code=code, read=True)
        found = {}
        for each in self.parameters:
            if each.owner is not owner:
                continue
            value = ledger.bind(each.name, to=owner.__qualname__, code=code, read=True)
            if value is None and each.has_default and self.settings.__pydantic_fields__[each.name].default is None:
                continue  # the constructor uses its own default
            if each.is_object and value is not None:
                found[each.name] = object_of(each, value, module=self.module, folders=folders)
            else:
                found[each.name] = with_folders(value, folders)
        return found


def plain_experiment(
    module: ModuleType,
    name: str,
    file: Path,
    *,
    chosen: Mapping[str, Any],
    load: Callable[[Path], ModuleType],
) -> PlainExperiment:
    """Return the experiment in a Python module. Raise `ExperimentError` if it has no LightningModule to train, or several and no choice.

    `chosen` holds the given values of `model` and `data`; `load` imports another file.
    """
    chosen = {key: value for key, value in chosen.items() if isinstance(value, str)}
    net = _choose(module, L.LightningModule, "model", chosen.get("model"), file=file)
    if net is None:
        message = f"experiment {name} has neither a class Settings with a task's net, nor a LightningModule"
        hint = "docs/how-to/experiments.md shows a task's net, docs/how-to/lightning.md a LightningModule; --script FILE runs a script"
        if imported := _imported(module, L.LightningModule):
            hint = f"choose an imported class: --model {' or '.join(list(imported)[:_SHOWN])}"
        raise ExperimentError(message, hint=hint)
    if not _has(net, "training_step", L.LightningModule):
        message = f"{place_of(net)}: {net.__name__} has no training_step, so there is nothing to train"
        raise ExperimentError(message, hint="define training_step, or name the class to train: --model NAME")
    source, word = module, None if _has_parameter(net, "data") else chosen.get("data")
    if word is not None and word.partition(":")[0].endswith(".py"):
        path, _, word = word.partition(":")
        source = load(Path(path))
    data = _choose(source, L.LightningDataModule, "data", word or None, file=Path(source.__file__ or file))
    owners: list[type] = [net, *([data] if data else [])]
    has_loader = any(_has(each, "train_dataloader", base) for each, base in zip(owners, _BASES, strict=False))
    unfilled: dict[str, str] = {}
    parameters = [each for owner in owners for each in parameters_of(owner, unfilled=unfilled)]
    given = {name: value for name, value in chosen.items() if name not in {each.name for each in parameters}}
    kinds = _with_choices(FitSettings if has_loader else SampleSettings, given, module=module.__name__)
    about = (inspect.getdoc(net) or net.__name__).partition("\n")[0]
    settings = settings_class(kinds, parameters, module=module.__name__, about=about)
    return PlainExperiment(
        name=name,
        file=file,
        module=module,
        settings=settings,
        net=net,
        data=data,
        parameters=tuple(parameters),
        choices=tuple(given),
        unfilled=unfilled,
    )


def _choose(module: ModuleType, base: type, name: str, word: object, *, file: Path) -> Any:
    """Return the class of a module that derives from `base`: the one named `word`, or the module's only one; None if there is none.

    A word can also name a class that the module imports. If the module's only class has a parameter `name`, any other word is a value of
    this parameter. Raise `ExperimentError` if a word names no class, or if there are several classes and no word.
    """
    found = {
        each.__name__: each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, base) and each.__module__ == module.__name__
    }
    if word in found:
        return found[str(word)]
    leaves = [each for each in found.values() if not any(each in other.__mro__[1:] for other in found.values())]
    if word is not None and not (len(leaves) == 1 and _has_parameter(leaves[0], name)):
        imported = _imported(module, base)
        if word in imported:
            return imported[str(word)]
        hint = did_you_mean(str(word), {*found, *imported})
        raise ExperimentError(f"{file.name} has no {base.__name__} {word!r}", hint=hint)
    if len(leaves) > 1:
        message = f"{file.name} has {len(leaves)} classes that derive from {base.__name__}: {listed(sorted(found))}"
        raise ExperimentError(message, hint=f"choose a class, such as --{name} {leaves[0].__name__}")
    return leaves[0] if leaves else None


def _imported(module: ModuleType, base: type) -> dict[str, type]:
    """Return the imported classes that derive from `base`, by their names in the module, except nets of a task, which need Settings."""
    return {
        name: each
        for name, each in vars(module).items()
        if isinstance(each, type)
        and issubclass(each, base)
        and each.__module__ != module.__name__
        and not (each is base or issubclass(each, Task))
    }


def _has_parameter(owner: type, name: str) -> bool:
    return name in inspect.signature(inspect.unwrap(owner.__init__)).parameters  # type: ignore[misc]


def _has(owner: type, hook: str, base: type) -> bool:
    return getattr(owner, hook) is not getattr(base, hook)


def _with_choices(base: type[FitSettings], chosen: Mapping[str, Any], *, module: str) -> type[FitSettings]:
    """Return the base class with the given settings `model` and `data`; a record has these settings only if they were given."""
    namespace: dict[str, Any] = {"__module__": module, "__annotations__": {}, "__doc__": base.__doc__}
    for name, value in chosen.items():
        namespace["__annotations__"][name] = Literal[value]
        namespace[name] = Field(description=f"The class that is the {name} of this experiment.")
    return new_settings(base, namespace) if namespace["__annotations__"] else base
