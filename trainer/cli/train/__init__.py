"""`reprise train`: the launcher. It finds out what must be known before anything is imported, freezes the source, and gives way.

Knows what can be refused at once: an unknown experiment, setting or dataset, a value of the wrong type, a lock that is not the image's,
a device this image cannot use, a folder that cannot be written. Refuses to import torch or the experiment: the training process, which
takes this one's place, does.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final, NoReturn

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import ExperimentError, UsageError
from trainer.base.safe_folder import run_root
from trainer.base.suggestions import listed
from trainer.cli.experiments import BROUGHT, ExperimentFile, experiment_names, find_experiment, nearest_experiment
from trainer.cli.machine import check_environment, check_lock, device_for, first_line, torch_version, visible_gpus
from trainer.cli.places import CHECKOUT, require_mounted, runs_folder, store_address
from trainer.cli.spelling import is_composed, spelled
from trainer.cli.train.foresight import refuse_early
from trainer.cli.train.manual import OWN, launch_help, resume_help
from trainer.runs.handoff import FrozenSource, Launch
from trainer.runs.image_claim import BAKED, SEEN, WATCHED, claim_image
from trainer.runs.record import is_run_id
from trainer.runs.run import abandon, new_run
from trainer.settings.determinism import require_one_process, threads_at, variables
from trainer.settings.fields import CONFINED, LaunchSettings
from trainer.settings.origins import Origins, Words, resolve, take_apart
from trainer.source.capture import BEGUN, CAPTURED, COPY, freeze, take_placed_source
from trainer.training.resuming.stop import Stop, hold

if TYPE_CHECKING:
    from trainer.cli.resume import Again
    from trainer.source.capture import SourceBundle

_PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A command line, understood as far as the launcher must."""

    argv: list[str]
    place: ExperimentFile
    settings: LaunchSettings
    file: Path | None
    helps: bool


def main(argv: list[str]) -> int:
    """Check, freeze, and become the training process; return only where there is nothing to run."""
    began = monotonic()
    stop = Stop()
    stop.listen()
    words = taken_apart(argv)
    if "exp" not in words.options and "help" in words.options:
        print(resume_help() if "resume" in words.options else launch_help(experiment_names(CHECKOUT)))
        return 0
    going_on = None
    if "resume" in words.options:
        from trainer.cli.resume import admitted, again, found

        folder = found(words)
        admission = admitted(folder, words)
        if admission.is_isolated:
            from trainer.cli.train.isolated import resume_isolated

            return resume_isolated(words, admission)
        if not BAKED.exists() and find_spec("torch") is None:
            from trainer.cli.train.container import resume_in_container

            trusted = ["--trust"] if admission.word.trusted and "trust" not in words.options else []
            return resume_in_container([*with_option(argv, "resume", folder.name), *trusted], folder, checkout=CHECKOUT)
        going_on = again(words, admission)
        if not admission.is_own:
            os.environ[CONFINED] = "1"  # what such code does makes no attempt the user's own
    return _launched(argv, began=began, stop=stop, going_on=going_on)


def _launched(argv: list[str], *, began: float, stop: Stop, going_on: Again | None) -> int:
    told = argv if going_on is None else going_on.argv
    watched, begun = os.environ.get(WATCHED), os.environ.pop(BEGUN, None)
    own = watched or begun
    root = going_on.source if going_on else source_of(runs_folder() / own) if own else CHECKOUT
    asked = understood(told, taken_apart(told), root=root, brought=runs_folder() / watched if watched else None)
    if going_on is not None:
        from trainer.cli.resume import begin_unseen

        begin_unseen(going_on, watched=watched is not None)
    known = claim_image(os.environ, run=await_seen(runs_folder(), watched) if watched else None)
    if known.baked is None and find_spec("torch") is None:
        from trainer.cli.train.container import train_in_container

        return train_in_container(from_checkout(asked), asked.place, checkout=CHECKOUT, begun=begun)
    if known.baked is not None and not asked.helps and (address := store_address()):
        require_mounted(address, typed=argv)
    check_lock(known, root)
    check_environment(known, asked.settings)
    device = device_for(
        asked.settings.accelerator, gpus=visible_gpus(), torch=torch_version(), level=asked.settings.determinism
    )
    launch = Launch(
        experiment=asked.place.name,
        file=(asked.place.outside if asked.helps and asked.place.outside else asked.place.file).as_posix(),
        device=device,
        command=["reprise", "train", *argv],
        started=datetime.now(UTC),
        monotonic=began,
    )
    if asked.helps:
        _become(launch, asked, source=root)
    print(first_line(known, launch, asked.settings), file=sys.stderr)
    if known.baked is not None and known.image.reason:
        print(f"image unknown: {spelled(known.image.reason)}", file=sys.stderr)
    hold()
    if going_on is not None:
        _become(resumed(launch, going_on), asked, source=root)
    run, folder = (own, runs_folder() / own) if own else new_run(runs_folder())
    try:
        stop.listen()
        bundle = take_placed_source(folder) or freeze(CHECKOUT, folder, extra=brought_by(asked.place))
        with disk_faults(folder), run_root(folder) as new:
            new.remove_tree(BROUGHT.as_posix())
        require_captured(asked.place, bundle)
        frozen = FrozenSource(
            run=run, folder=str(folder), shown=_shown(folder), digest=bundle.digest, source=bundle.source
        )
        print("importing torch and the experiment", file=sys.stderr)  # seconds, and on a machine's first run more
        for line in bundle.left_out:
            print(f"not in the source: {line}", file=sys.stderr)
        _become(launch.model_copy(update={"frozen": frozen}), asked, source=folder / "source")
    except BaseException:
        abandon(folder)
        raise


def source_of(folder: Path) -> Path:
    """The source from which a run is begun: the one that another command laid into its folder, else the checkout."""
    laid = folder / COPY
    return laid.resolve() if laid.is_dir() and (folder / CAPTURED).is_file() else CHECKOUT


def resumed(launch: Launch, going_on: Again) -> Launch:
    """What the training process is told of a run that goes on: its own source, and what may be otherwise than before."""
    record = going_on.record
    frozen = FrozenSource(
        run=record.run,
        folder=str(going_on.folder),
        shown=_shown(going_on.folder),
        digest=record.ingredients.source,
        source=record.circumstances.source,
    )
    more = {"experiment": record.ingredients.experiment, "frozen": frozen, "resumes": True}
    return launch.model_copy(update={**more, "allowed": going_on.allowed, "passed": going_on.passed})


def _shown(folder: Path) -> str:
    return str(folder.relative_to(CHECKOUT) if folder.is_relative_to(CHECKOUT) else folder)


def await_seen(runs: Path, run: str) -> Path:
    """The folder of a run that a launcher on the host watches, once it has written what it saw; it has ten seconds for that."""
    if not is_run_id(run) or not (runs / run).is_dir():
        raise UsageError(
            f"{WATCHED} is {run!r}, which is no run of {runs}", hint=f"leave {WATCHED} unset: the host sets it"
        )
    until = monotonic() + _PATIENCE
    while not (runs / run / SEEN).exists() and monotonic() < until:
        sleep(0.02)
    return runs / run


def taken_apart(argv: list[str]) -> Words:
    """The words as options; for who left `--exp` out, with the experiment that was meant."""
    try:
        return take_apart(["--help" if word == "-h" else word for word in argv])
    except UsageError as fault:
        near = next((found for word in argv if (found := nearest_experiment(word, checkout=CHECKOUT))), None)
        if near is None or any(word.partition("=")[0] == "--exp" for word in argv):
            raise
        raise UsageError(fault.message, hint=f"did you mean --exp {near}?") from fault


def _found(name: str, *, root: Path, brought: Path | None) -> ExperimentFile:
    here = Path.cwd() if root == CHECKOUT else root
    if is_composed() and not (here / name).resolve().is_relative_to(root) and not (here / name).exists():
        raise ExperimentError(
            f"experiment {name} is not in this container, which sees the checkout only",
            hint=f"scripts/train --exp {name} brings it along; or copy it into the checkout",
        )
    return find_experiment(name, checkout=root, here=here, brought=brought)


def understood(argv: list[str], words: Words, *, root: Path = CHECKOUT, brought: Path | None = None) -> Asked:
    """Understand a command line, of the source in `root`. Raises `UsageError`, `ExperimentError`, `SettingError`."""
    name = words.options.get("exp")
    known = listed(experiment_names(root))
    if name is None:
        raise UsageError("train needs an experiment: --exp NAME", hint=f"known: {known}; or the path of a Python file")
    place = _found(name, root=root, brought=brought)
    given = words.options.get("settings")
    if not given and "settings" in words.options:
        raise UsageError("--settings needs a file", hint="write --settings FILE.toml")
    file = Path(given).absolute() if given else None
    if is_composed() and file is not None and not file.exists() and not file.resolve().is_relative_to(root):
        raise UsageError(
            f"--settings {given} is not in this container, which sees the checkout only",
            hint="copy it into the checkout",
        )
    origins = Origins(words=words.without(*OWN), environ=os.environ, file=file)
    if "help" not in words.options:
        refuse_early(place, origins, checkout=root)
    settings = resolve(LaunchSettings, origins, partly=True).settings
    require_one_process(settings.determinism, settings.devices)
    return Asked(argv=argv, place=place, settings=settings, file=file, helps="help" in words.options)


def from_checkout(asked: Asked) -> list[str]:
    """The words as they are read where the container starts, in the checkout's root. Raises `UsageError`."""
    argv = with_option(asked.argv, "exp", asked.place.name)
    if asked.file is None:
        return argv
    file = asked.file.resolve()
    if not file.is_relative_to(CHECKOUT):
        raise UsageError(
            f"--settings {file} is outside of the checkout, which is all that the image sees",
            hint="copy it into the checkout",
        )
    return with_option(argv, "settings", file.relative_to(CHECKOUT).as_posix())


def brought_by(place: ExperimentFile) -> dict[str, Path]:
    """The file that an experiment from outside of the checkout adds to the source, by its path there."""
    return {} if place.outside is None else {place.file.as_posix(): place.outside}


def require_captured(place: ExperimentFile, bundle: SourceBundle) -> None:
    """Raise `ExperimentError` if the experiment is not in the source that would run."""
    path = place.file.as_posix()
    if any(file.path == path for file in bundle.files):
        return
    if reason := next((line for line in bundle.left_out if line.startswith(f"{path}: ")), None):
        raise ExperimentError(f"experiment {place.name} is not in the run's source: {reason}", hint="correct that file")
    raise ExperimentError(
        f"experiment {place.name} is ignored by git, so it is not in the run's source",
        hint="take it out of .gitignore",
    )


def _become(launch: Launch, asked: Asked, *, source: Path) -> NoReturn:
    level = asked.settings.determinism
    settings = variables(level, threads=threads_at(level, asked.settings.threads))
    own = {"PYTHONPATH": str(source), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    if _is_compiled():
        own["PYTHONDONTWRITEBYTECODE"] = "1"
    argv = [word for word in asked.argv if word not in {"-h", "--help"}] + (["--help"] if asked.helps else [])
    hold()
    os.chdir(source)
    told = argv if asked.file is None else with_option(argv, "settings", str(asked.file))  # it runs in another folder
    command = [sys.executable, "-P", "-m", "trainer", "_process", *told]
    os.execvpe(sys.executable, command, {**os.environ, **settings, **own, **launch.variables()})  # noqa: S606 - no shell is wanted: this process becomes the other


def _is_compiled() -> bool:
    """Tell whether torch's bytecode is there: then none is written, and the frozen source stays as it was captured.

    Where it is not, the first run writes it: compiling torch and Lightning takes ten seconds, each time.
    """
    found = find_spec("torch")
    return found is not None and found.origin is not None and Path(cache_from_source(found.origin)).is_file()


def with_option(argv: list[str], option: str, value: str) -> list[str]:
    """The words with another value of an option that is among them, in its place."""
    told: list[str] = []
    words = iter(argv)
    for word in words:
        if word == f"--{option}":
            next(words)
            told += [word, value]
        else:
            told.append(f"--{option}={value}" if word.startswith(f"--{option}=") else word)
    return told
