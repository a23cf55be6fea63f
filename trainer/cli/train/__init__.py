"""`reprise train`: the launcher; checks the command line, freezes the source, and executes the training process.

Rejects without importing torch or the experiment: unknown experiments, settings and datasets, values of the wrong type, a lock other than
the image's, a device that the image cannot use, and a folder that is not writable.
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
from trainer.cli.configuration import CHECKOUT, require_mounted, runs_folder, store_address
from trainer.cli.experiments import BROUGHT, ExperimentFile, experiment_names, find_experiment, nearest_experiment
from trainer.cli.machine import check_environment, check_lock, device_for, first_line, torch_version, visible_gpus
from trainer.cli.spelling import is_composed, spelled
from trainer.cli.train.foresight import refuse_early
from trainer.cli.train.manual import OWN, launch_help, resume_help
from trainer.runs.handoff import FrozenSource, Launch
from trainer.runs.image_claim import BAKED, SEEN, WATCHED, claim_image
from trainer.runs.record import is_run_id
from trainer.runs.resume import move_seen_image
from trainer.runs.run import abandon, new_run
from trainer.settings.determinism import require_one_process, threads_at, variables
from trainer.settings.fields import CONFINED, LaunchSettings
from trainer.settings.origins import Origins, Words, resolve, take_apart
from trainer.source.capture import BEGUN, CAPTURED, COPY, freeze, take_placed_source
from trainer.training.resuming.stop_requests import Stop, hold

if TYPE_CHECKING:
    from trainer.cli.resume import Resumption
    from trainer.source.capture import SourceBundle

_PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A parsed command line of `reprise train`."""

    argv: list[str]
    place: ExperimentFile
    settings: LaunchSettings
    file: Path | None
    helps: bool


def main(argv: list[str]) -> int:
    """Check, freeze, and execute the training process; return if there is nothing to run in this process."""
    began = monotonic()
    stop = Stop()
    stop.listen()
    words = taken_apart(argv)
    if "exp" not in words.options and "help" in words.options:
        print(resume_help() if "resume" in words.options else launch_help(experiment_names(CHECKOUT)))
        return 0
    going_on = None
    if "resume" in words.options:
        from trainer.cli.resume import admit, find_run_to_resume, prepare

        folder = find_run_to_resume(words)
        admission = admit(folder, words)
        if admission.is_isolated:
            from trainer.cli.train.isolated import resume_isolated

            return resume_isolated(words, admission)
        if not BAKED.exists() and find_spec("torch") is None:
            from trainer.cli.train.container import resume_in_container

            trusted = ["--trust"] if admission.word.trusted and "trust" not in words.options else []
            return resume_in_container([*with_option(argv, "resume", folder.name), *trusted], folder, checkout=CHECKOUT)
        going_on = prepare(words, admission)
        if not admission.is_own:
            os.environ[CONFINED] = "1"  # an attempt of such code is not registered as the user's own
    return _launch(argv, began=began, stop=stop, going_on=going_on)


def _launch(argv: list[str], *, began: float, stop: Stop, going_on: Resumption | None) -> int:
    command = argv if going_on is None else going_on.argv
    watched, begun = os.environ.get(WATCHED), os.environ.pop(BEGUN, None)
    own = watched or begun
    root = going_on.source if going_on else source_of(runs_folder() / own) if own else CHECKOUT
    asked = understood(command, taken_apart(command), root=root, brought=runs_folder() / watched if watched else None)
    if going_on is not None and not watched:
        move_seen_image(going_on.folder)  # it describes an earlier attempt's container
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
            print(f"left out of the source: {line}", file=sys.stderr)
        _become(launch.model_copy(update={"frozen": frozen}), asked, source=folder / "source")
    except BaseException:
        abandon(folder)
        raise


def source_of(folder: Path) -> Path:
    """Return the source of a new run: the one that another command copied into the run folder, else the checkout."""
    copy = folder / COPY
    return copy.resolve() if copy.is_dir() and (folder / CAPTURED).is_file() else CHECKOUT


def resumed(launch: Launch, going_on: Resumption) -> Launch:
    """Return the launch of a resumed run: with the run's own source and what may differ from before."""
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
    """Wait up to ten seconds for the inspection of the container by the launcher on the host; return the run folder."""
    if not is_run_id(run) or not (runs / run).is_dir():
        raise UsageError(
            f"{WATCHED} is {run!r}, which is no run in {runs}",
            hint=f"unset {WATCHED}: only the host's launcher sets it",
        )
    until = monotonic() + _PATIENCE
    while not (runs / run / SEEN).exists() and monotonic() < until:
        sleep(0.02)
    return runs / run


def taken_apart(argv: list[str]) -> Words:
    """Split a command line into options; the error for a missing `--exp` has the likely experiment as its hint."""
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
            f"experiment {name} is not in this container: only the checkout is mounted",
            hint=f"scripts/train --exp {name} copies it into the container; or copy it into the checkout",
        )
    return find_experiment(name, checkout=root, here=here, brought=brought)


def understood(argv: list[str], words: Words, *, root: Path = CHECKOUT, brought: Path | None = None) -> Asked:
    """Parse a command line for the source in `root`. Raise `UsageError`, `ExperimentError`, `SettingError`."""
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
            f"--settings {given} is not in this container: only the checkout is mounted",
            hint="copy the file into the checkout",
        )
    origins = Origins(words=words.without(*OWN), environ=os.environ, file=file)
    if "help" not in words.options:
        refuse_early(place, origins, checkout=root)
    settings = resolve(LaunchSettings, origins, partly=True).settings
    require_one_process(settings.determinism, settings.devices)
    return Asked(argv=argv, place=place, settings=settings, file=file, helps="help" in words.options)


def from_checkout(asked: Asked) -> list[str]:
    """Return the command line with paths relative to the checkout, where the container starts. Raise `UsageError`."""
    argv = with_option(asked.argv, "exp", asked.place.name)
    if asked.file is None:
        return argv
    file = asked.file.resolve()
    if not file.is_relative_to(CHECKOUT):
        raise UsageError(
            f"--settings {file} is outside of the checkout; the container has the checkout only",
            hint="copy the file into the checkout",
        )
    return with_option(argv, "settings", file.relative_to(CHECKOUT).as_posix())


def brought_by(place: ExperimentFile) -> dict[str, Path]:
    """Return the file that an experiment from outside the checkout adds to the source, by its path in the source."""
    return {} if place.outside is None else {place.file.as_posix(): place.outside}


def require_captured(place: ExperimentFile, bundle: SourceBundle) -> None:
    """Raise `ExperimentError` if the experiment is not in the captured source."""
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
    words = argv if asked.file is None else with_option(argv, "settings", str(asked.file))  # the folder changes
    command = [sys.executable, "-P", "-m", "trainer", "_process", *words]
    os.execvpe(sys.executable, command, {**os.environ, **settings, **own, **launch.variables()})  # noqa: S606 - replaces this process, without a shell


def _is_compiled() -> bool:
    """Return whether torch's bytecode exists, so that no bytecode is written into the frozen source.

    Without bytecode the first run writes it: compiling torch and Lightning takes ten seconds.
    """
    torch = find_spec("torch")
    return torch is not None and torch.origin is not None and Path(cache_from_source(torch.origin)).is_file()


def with_option(argv: list[str], option: str, value: str) -> list[str]:
    """Return the command line with the value of an existing option replaced."""
    replaced: list[str] = []
    words = iter(argv)
    for word in words:
        if word == f"--{option}":
            next(words)
            replaced += [word, value]
        else:
            replaced.append(f"--{option}={value}" if word.startswith(f"--{option}=") else word)
    return replaced
