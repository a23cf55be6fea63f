"""The import of an experiment: a module with one `Settings` class and one net with a task, or with a plain LightningModule."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FunctionType, MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from pydantic import PydanticUserError

from trainer.base.errors import ExperimentError, RepriseError
from trainer.data.references import ROLES, datasets_by_role
from trainer.settings import errors as setting_faults
from trainer.settings.ledger import call_configured, configured
from trainer.settings.parameters import configured_parameters, parameters_in, require_agreement
from trainer.source.project import frozen_project, import_roots, module_name
from trainer.training.declared_settings import STEPS, untyped_named
from trainer.training.determinism.seeds import derived, seed_all
from trainer.training.failures import own_failure
from trainer.training.optimization.parameter_groups import freeze
from trainer.training.plain.experiment import PlainExperiment, plain_experiment
from trainer.training.settings import TrainingSettings
from trainer.training.tasks.task import MADE_AT_SETUP, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGE: Final = "trainer.training."
_MEASURING: Final = ("training_step", "validation_step", "test_step", "_input_and_target")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """An imported experiment."""

    name: str
    file: Path
    settings: type[TrainingSettings]
    net: type[Task]

    @property
    def reads_fields(self) -> bool:
        """Whether the package's own steps read the sample's fields; an experiment with its own steps may not use them."""
        return all(getattr(self.net, name).__module__.startswith(_PACKAGE) for name in STEPS)

    @property
    def reads_samples(self) -> bool:
        """Whether the batches are read from the datasets that the setting `dataset` names: always."""
        return True

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that a run reads: all three, because a task's net is validated and tested."""
        return ROLES

    @property
    def has_package_steps(self) -> bool:
        """Whether the package's own steps train and measure the net, with any reader."""
        return all(getattr(self.net, name).__module__.startswith(_PACKAGE) for name in _MEASURING)

    def datasets(self, settings: TrainingSettings) -> list[str]:
        """Return the names of the datasets that the settings name, the dataset of train first."""
        return [*datasets_by_role(settings.dataset)]

    def make_net(self) -> Task:
        """Create the net with constructor arguments from the settings, and freeze the parameters that the setting `frozen` matches.

        Raise `ExperimentError` if the net overwrites an attribute of its task or has a parameter without values, `SettingError` for a
        pattern of `frozen` that matches no parameter.
        """
        net: Task = configured(self.net)()
        attributes = {*vars(net), *net._modules, *net._parameters, *net._buffers}  # noqa: SLF001 - torch has no public names for these dicts
        bases = [base for base in type(net).__mro__ if base.__module__.startswith(_PACKAGE)]
        methods = {name for base in bases for name, value in vars(base).items() if callable(value)}
        if hidden := sorted(attributes & {*MADE_AT_SETUP, *methods}):
            message = f"{self.file.name}: the net sets self.{hidden[0]}, which its task defines"
            hint = f"rename self.{hidden[0]}"
            if hasattr(Task, f"make_{hidden[0]}"):
                hint = f"rename self.{hidden[0]}; to change what the task uses, override make_{hidden[0]}"
            raise ExperimentError(message, hint=hint)
        if empty := next((name for name, each in net.named_parameters() if each.is_meta), None):
            message = f"parameter {empty} of {type(net).__name__} is on the device meta: it has no values"
            raise ExperimentError(message, hint="make the layer on the CPU; the run moves it to its device")
        call_configured(freeze, net)
        return net


def load_experiment(name: str, file: Path, *, root: Path) -> Experiment:
    """Import the experiment in `file`. Raise `ExperimentError` if it has no task, and the errors of `load_any_experiment`."""
    found = load_any_experiment(name, file, root=root)
    if isinstance(found, PlainExperiment):
        message = f"experiment {name} is a plain LightningModule, {found.net.__name__}; this command needs a task's net"
        raise ExperimentError(
            message, hint="train, reproduce, compare and report work with it: docs/how-to/lightning.md"
        )
    return found


def load_any_experiment(
    name: str,
    file: Path,
    *,
    root: Path,
    chosen: Mapping[str, Any] = MappingProxyType({}),
    project: Path | None = None,
) -> Experiment | PlainExperiment:
    """Import the experiment in `file`: a net with a task, or a plain LightningModule.

    `chosen` holds the settings `model` and `data` if they were given; `project` is the root of the project to which a file outside
    `root` belongs. Raise `ExperimentFailedError` if the experiment's code raises, `ExperimentError` if the net or the settings are missing.
    """
    seed_all(derived(0, "import"))  # random numbers drawn during the import are then equal in every process
    project = project or frozen_project(file)
    module = _imported(file, root=root, project=project)
    settings = getattr(module, "Settings", None)
    has_settings = isinstance(settings, type) and issubclass(settings, TrainingSettings)
    if not has_settings and not _tasks_of(module):
        load = partial(_imported_from_source, root=root, project=project)
        return plain_experiment(module, name, file, chosen=chosen, load=load)
    if not (isinstance(settings, type) and has_settings):
        raise ExperimentError(
            f"experiment {name} has no class Settings; expected a class that derives from a task's settings, "
            "such as ClassificationSettings",
            hint="trainer/experiments/digits.py shows an example",
        )
    nets = _tasks_of(module)
    if len(nets) != 1:
        found = ", ".join(kind.__name__ for kind in nets) or "no net"
        raise ExperimentError(
            f"experiment {name} has {found}; expected exactly one net that derives from a task, such as Classifier",
            hint="keep one net in the module"
            if nets
            else "write `class Net(Classifier)`; docs/how-to/experiments.md names the tasks",
        )
    constructor = vars(nets[0]).get("__init__")
    own = (
        []
        if constructor is None or hasattr(constructor, "__wrapped__")
        else configured_parameters(constructor, called=nets[0].__qualname__)
    )
    require_agreement(settings, [*parameters_in(_reached(module, root)), *own], root=root)
    return Experiment(name=name, file=file, settings=settings, net=nets[0])


def _tasks_of(module: ModuleType) -> list[type[Task]]:
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__]
    return [kind for kind in kinds if issubclass(kind, Task)]


def _reached(module: ModuleType, root: Path) -> set[str]:
    """Return the modules that can use a setting of the experiment: its own, the modules that it uses, and `trainer.training`."""
    found, waiting = {module.__name__}, [module]
    while waiting:
        for value in list(vars(waiting.pop()).values()):
            if not isinstance(value, ModuleType | FunctionType | type):
                continue
            name = value.__name__ if isinstance(value, ModuleType) else value.__module__
            other = sys.modules.get(name)
            file = getattr(other, "__file__", None)
            is_source = file is not None and Path(file).is_relative_to(root) and "site-packages" not in file
            if other is not None and name not in found and is_source:
                found.add(name)
                waiting.append(other)
    return found | {name for name in sys.modules if name.startswith(_PACKAGE)}


def _imported(file: Path, *, root: Path, project: Path | None) -> ModuleType:
    inside = file.relative_to(root).with_suffix("").parts if file.is_relative_to(root) else ()
    try:
        if project is not None and file.is_relative_to(project):
            return _of_project(file, project)
        if inside[:2] == ("trainer", "experiments"):
            return importlib.import_module(".".join(inside))
        if inside and all(part.isidentifier() for part in inside) and (file.parent / "__init__.py").is_file():
            return importlib.import_module(".".join(inside))  # a module in a package can use relative imports
        return _from_path(file)
    except RepriseError:
        raise
    except PydanticUserError as fault:
        raise (_untyped(fault, file) or own_failure(fault, file=file, root=root) or fault) from fault
    except BaseException as fault:
        own = own_failure(fault, file=file, root=root)
        if own is None:
            raise
        raise own from fault


def _of_project(file: Path, project: Path) -> ModuleType:
    """Import a file of a project, as a module of its package if it is in a package; the project's import roots are added to `sys.path`.

    Raise `ExperimentError` if another module has the same name.
    """
    roots = [str(folder) for folder in import_roots(file, project)]
    packages = [number for number, each in enumerate(sys.path) if Path(each).name in {"site-packages", "dist-packages"}]
    # The project's modules come before installed packages, as in the project's own programs.
    at = min(packages, default=len(sys.path))
    sys.path[at:at] = [folder for folder in roots if folder not in sys.path]
    if (name := module_name(file, project)) is None:
        return _from_path(file)
    module = importlib.import_module(name)
    if Path(module.__file__ or "").resolve() != file.resolve():
        message = f"{file.name} is the module {name} of its project; {module.__file__} has the same name"
        raise ExperimentError(message, hint=f"rename the package {name.partition('.')[0]} of the project")
    return module


def _imported_from_source(path: Path, *, root: Path, project: Path | None) -> ModuleType:
    """Import another file of the source, or of the experiment's project; raise `ExperimentError` for a file that is in neither."""
    for folder in filter(None, (project, root)):
        file = folder / path
        if not path.is_absolute() and file.resolve().is_relative_to(folder.resolve()) and file.is_file():
            return _imported(file, root=root, project=project)
    message = f"setting data is {str(path)!r}, which is not a file of the run's source"
    hint = "name a file by its path in the checkout or in the experiment's repository, such as --data theirs/data.py"
    raise ExperimentError(message, hint=hint)


def _untyped(fault: PydanticUserError, file: Path) -> ExperimentError | None:
    named = re.search(r"`(\w+) = ", fault.message)
    if fault.code != "model-field-missing-annotation" or named is None:
        return None
    found = untyped_named(file.read_text(encoding="utf-8"), named[1])
    if found is None:
        return None
    return setting_faults.untyped(found.name, found.value, place=f"{file.name}:{found.line}", known=found.known)


def _from_path(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"experiment_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ExperimentError(f"{file} is not a Python file", hint="name a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # a module can import the files next to it, as a script can
    spec.loader.exec_module(module)
    return module
