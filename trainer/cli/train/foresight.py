"""Rejects wrong settings before the experiment and torch are imported, from the experiment's text and the declarations.

Settings that the text does not determine are checked by the training process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.base.errors import ExperimentError, SettingError
from trainer.base.plain_text import read_python
from trainer.data.declaration import check_pairing, load_dataset
from trainer.settings import errors as setting_faults
from trainer.settings.declarations import unnamable
from trainer.settings.hints import option
from trainer.settings.origins import resolve
from trainer.training.declared_settings import misnamed, sketched, untyped
from trainer.training.unused_settings import parameter, untaken

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.cli.experiments import ExperimentFile
    from trainer.settings.origins import Origins
    from trainer.training.settings import TrainingSettings


def refuse_early(place: ExperimentFile, origins: Origins, *, checkout: Path) -> None:
    """Raise `SettingError` with all settings that are certainly wrong, `DatasetError` for an undeclared dataset."""
    file = place.outside or checkout / place.file
    try:
        text = read_python(file)
    except OSError as fault:
        raise ExperimentError(f"experiment {file} cannot be read: {fault.strerror}", hint=f"ls -l {file}") from fault
    except (SyntaxError, UnicodeDecodeError) as fault:
        message = f"experiment {file} is not readable as Python text: {str(fault).partition(' for ')[0]}"
        raise ExperimentError(message, hint="save it as UTF-8") from fault
    _require_declarations(text, file=file.name)
    sketch = sketched(text)
    if sketch is None:
        return
    for name in origins.words.options.keys() - sketch.settings.__pydantic_fields__.keys():
        _require_no_parameter(name, text, file=file.name)
    resolved = resolve(sketch.settings, origins)
    if faults := list(untaken(resolved, text, package=checkout / "trainer" / "training")):
        raise setting_faults.all_of(faults)
    unknown = {name for name in sketch.unknown_defaults if not resolved.origins[name].is_given}
    if not unknown & {"patience", "monitor"}:
        _require_monitor(resolved.settings)
    if "dataset" in unknown:
        return
    dataset = load_dataset(resolved.settings.dataset, root=checkout)
    if sketch.reads_fields:
        check_pairing(resolved, dataset, skip=unknown)


def _require_declarations(text: str, *, file: str) -> None:
    """Raise `ExperimentError` for a declared setting with a reserved name or without a type."""
    if wrong := misnamed(text):
        raise unnamable(wrong[0], wrong[1], place=f"{file}:{wrong[2]}")
    if found := untyped(text):
        place = f"{file}:{found.line}"
        raise setting_faults.untyped(found.name, found.value, place=place, known=found.known)


def _require_no_parameter(name: str, text: str, *, file: str) -> None:
    """Raise `SettingError` for an unknown setting that is a parameter in the experiment's text."""
    if found := parameter(text, name):
        declaration, line = found
        raise SettingError(
            f"unknown setting {option(name)} on the command line",
            hint=f"{file}:{line} has a parameter of that name: declare it in Settings as `{declaration}`",
        )


def _require_monitor(settings: TrainingSettings) -> None:
    if settings.patience is not None and settings.monitor is None:
        raise setting_faults.unmonitored()
