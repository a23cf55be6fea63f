"""The launcher of `reprise train`: it checks the command line, freezes the source, and executes the training process.

Without importing torch or the experiment, it rejects unknown experiments, settings and datasets, values of the wrong type, a lock other
than the image's, a device that the image cannot use, and a folder that is not writable.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from importlib.util import cache_from_source, find_spec
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final, NoReturn

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import UsageError
from trainer.base.safe_folder import run_root
from trainer.cli.configuration import CHECKOUT, require_mounted, runs_folder, shown_path, store_address
from trainer.cli.experiments import COPIED_EXPERIMENT, experiment_names
from trainer.cli.machine import (
    can_train,
    check_environment,
    check_lock,
    device_for,
    first_line,
    torch_version,
    visible_gpus,
)
from trainer.cli.messages import spelled
from trainer.cli.nodes import read_node
from trainer.cli.train.command_line import TrainRequest, parse_train_options, parse_train_request, require_captured
from trainer.cli.train.edit_arguments import as_typed, from_checkout, with_arguments, with_option, with_settings_files
from trainer.cli.train.manual import launch_help, resume_help
from trainer.runs.image_file import RUN_VARIABLE
from trainer.settings.determinism import threads_at, variables
from trainer.settings.fields import CONFINED
from trainer.source.capture import (
    CELLS,
    COPY,
    NOTEBOOK,
    PREPARED_RUN_VARIABLE,
    SOURCE_DESCRIPTION,
    freeze,
    take_placed_source,
)
from trainer.training.resuming.stop_requests import StopRequest, hold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.cli.resume import Resumption
    from trainer.cli.train.resume_or_begin import Continuation
    from trainer.runs.handoff import Launch
    from trainer.source.description import Source

_PATIENCE: Final = 10.0


def main(argv: list[str]) -> int:
    """Check the arguments, freeze the source, and execute the training process; return only if nothing is trained in this process."""
    began = monotonic()
    stop = StopRequest()
    stop.listen()
    argv = with_arguments(argv)
    options = parse_train_options(argv)
    repeated: Continuation | None = None
    if "resume_or_begin" in options:
        from trainer.cli.train.resume_or_begin import resume_or_begin

        repeated = resume_or_begin(argv, options)
        if repeated.is_completed:
            return 0
        argv = repeated.argv
        options = parse_train_options(argv)
    if not {"exp", "script"} & options.keys() and "help" in options:
        print(resume_help() if "resume" in options else launch_help(experiment_names(CHECKOUT)))
        return 0
    resumption = None
    if "resume" in options:
        from trainer.cli.resume import admit, find_run_to_resume, prepare, resume_isolated

        folder = find_run_to_resume(options)
        admission = admit(folder, options)
        if admission.is_isolated:
            return resume_isolated(options, admission)
        if not can_train():
            from trainer.cli.containers import resume_in_container

            trust_option = ["--trust"] if admission.word.trusted and "trust" not in options else []
            return resume_in_container([*with_option(argv, "resume", folder.name), *trust_option], folder)
        resumption = prepare(options, admission)
        if not admission.is_own:
            os.environ[CONFINED] = "1"  # an attempt of such code is not registered as the user's own
    return _launch(argv, began=began, stop=stop, resumption=resumption, repeated=repeated)


def _launch(
    argv: list[str], *, began: float, stop: StopRequest, resumption: Resumption | None, repeated: Continuation | None
) -> int:
    command = argv if resumption is None else resumption.argv
    watched, placed = (
        os.environ.get(RUN_VARIABLE),
        os.environ.pop(PREPARED_RUN_VARIABLE, None) or (repeated.run if repeated else None),
    )
    prepared = watched or placed
    root = resumption.source if resumption else source_of(runs_folder() / prepared) if prepared else CHECKOUT
    request = parse_train_request(command, root=root, copies=runs_folder() / watched if watched else None)
    _require_machines(request, resumes=resumption is not None and repeated is None)
    if resumption is not None and not watched:
        from trainer.runs.resume import archive_observed_image

        archive_observed_image(resumption.folder)  # it describes an earlier attempt's container
    # Modules that read and write records are imported only now, after wrong settings were rejected.
    from trainer.runs.handoff import FrozenSource, Launch
    from trainer.runs.image_claim import claim_image
    from trainer.runs.run import abandon, new_run
    from trainer.runs.submitted_source import SOURCE_VARIABLE, take_submitted_source

    claim = claim_image(os.environ, run=await_observed_image(runs_folder(), watched) if watched else None)
    if not can_train():
        from trainer.cli.containers import train_in_container

        return train_in_container(from_checkout(request), request.experiment, placed=placed)
    if claim.baked is not None and not request.describes and (address := store_address()):
        require_mounted(address, typed=argv)
    check_lock(claim, root)
    check_environment(claim, request.settings)
    device = device_for(
        request.settings.accelerator, gpus=visible_gpus(), torch=torch_version(), level=request.settings.determinism
    )
    launch = Launch(
        experiment=request.experiment.name,
        file=(
            request.experiment.outside if request.describes and request.experiment.outside else request.experiment.file
        ).as_posix(),
        is_script=request.is_script,
        device=device,
        command=["reprise", "train", *as_typed(argv)],
        started=datetime.now(UTC),
        monotonic=began,
    )
    if request.describes:
        _execute(launch, request, source=root)
    print(first_line(claim, launch, request.settings), file=sys.stderr)
    if claim.baked is not None and claim.image.reason:
        print(f"image unknown: {spelled(claim.image.reason)}", file=sys.stderr)
    hold()
    if resumption is not None:
        _execute(resumed_launch(launch, resumption), request, source=root)
    run, folder = (prepared, runs_folder() / prepared) if prepared else new_run(runs_folder())
    try:
        stop.listen()
        bundle = (
            take_placed_source(folder)
            or take_submitted_source(folder, digest=os.environ.get(SOURCE_VARIABLE))
            or freeze(CHECKOUT, folder, extra=request.experiment.extra | _notebook_cells())
        )
        with disk_faults(folder), run_root(folder) as new:
            new.remove_tree(COPIED_EXPERIMENT.as_posix())
        require_captured(request.experiment, bundle)
        frozen = FrozenSource(
            run=run, folder=str(folder), shown=shown_path(folder), digest=bundle.digest, source=bundle.source
        )
        if not request.is_script:
            # takes seconds, and longer on a machine's first run
            print("importing torch and the experiment", file=sys.stderr)
        for line in _remarks(bundle.source):
            print(line, file=sys.stderr)
        _execute(launch.model_copy(update={"frozen": frozen}), request, source=folder / "source")
    except BaseException:
        abandon(folder)
        raise


def _require_machines(request: TrainRequest, *, resumes: bool) -> None:
    """Raise `SettingError` or `UsageError` for a run that the machines of this process's launcher cannot share."""
    node = None if request.describes else read_node(os.environ)
    if node is None:
        return
    node.devices_here(request.settings.devices)
    if resumes:
        message = f"--resume on {node.nodes} machines: the other machines do not have the run's record"
        hint = (
            "type --resume-or-begin RUN and the options that began the run on every machine; or resume on one machine"
        )
        raise UsageError(message, hint=hint)


def _remarks(source: Source) -> Iterator[str]:
    """Yield a line about the project in the source, and a line for each omitted file."""
    if source.project is not None:
        yield f"{source.project.path}: {source.project.described}"
    yield from (f"left out of the source: {line}" for line in source.left_out)


def _notebook_cells() -> dict[str, Path]:
    """Return the file with the cells of the notebook that started this run, by its path in the source; empty without a notebook."""
    file = os.environ.get(NOTEBOOK)
    return {CELLS: Path(file)} if file else {}


def source_of(folder: Path) -> Path:
    """Return the source of a new run: the copy that another command placed in the run folder, else the checkout."""
    copy = folder / COPY
    return copy.resolve() if copy.is_dir() and (folder / SOURCE_DESCRIPTION).is_file() else CHECKOUT


def resumed_launch(launch: Launch, resumption: Resumption) -> Launch:
    """Return the launch of a resumed run, with the run's own source and the kinds of ingredients that may have changed."""
    from trainer.runs.handoff import FrozenSource

    record = resumption.record
    frozen = FrozenSource(
        run=record.run,
        folder=str(resumption.folder),
        shown=shown_path(resumption.folder),
        digest=record.ingredients.source,
        source=record.circumstances.source,
    )
    updates = {"experiment": record.ingredients.experiment, "frozen": frozen, "resumes": True}
    return launch.model_copy(update={**updates, "allowed": resumption.allowed, "passed": resumption.passed})


def await_observed_image(runs: Path, run: str) -> Path:
    """Wait up to ten seconds until the launcher on the host has inspected this container; return the run folder.

    Raise `UsageError` if `run` is not a run in `runs`.
    """
    from trainer.runs.image_claim import OBSERVED_IMAGE
    from trainer.runs.run_id import is_run_id

    if not is_run_id(run) or not (runs / run).is_dir():
        raise UsageError(
            f"{RUN_VARIABLE} is {run!r}, which is not a run in {runs}",
            hint=f"unset {RUN_VARIABLE}: only the host's launcher sets it",
        )
    deadline = monotonic() + _PATIENCE
    while not (runs / run / OBSERVED_IMAGE).exists() and monotonic() < deadline:
        sleep(0.02)
    return runs / run


def _execute(launch: Launch, request: TrainRequest, *, source: Path) -> NoReturn:
    level = request.settings.determinism
    settings = variables(level, threads=threads_at(level, request.settings.threads))
    switches = {"PYTHONPATH": str(source), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    if _is_compiled():
        switches["PYTHONDONTWRITEBYTECODE"] = "1"
    argv = ["--help" if word == "-h" else word for word in request.argv]
    arguments = with_settings_files(argv, [_in_source(file, source) for file in request.origins.files])
    hold()
    os.chdir(source)
    command = [sys.executable, "-P", "-m", "trainer", "_process", *arguments]
    os.execvpe(sys.executable, command, {**os.environ, **settings, **switches, **launch.variables()})  # noqa: S606 - replaces this process, without a shell


def _in_source(file: Path, source: Path) -> Path:
    """Return the path by which the process reads a settings file: in the frozen source if the file there has the same bytes."""
    if not file.is_relative_to(CHECKOUT) or source == CHECKOUT:
        return file
    inside = file.relative_to(CHECKOUT)
    frozen = source / inside
    is_frozen = bool(inside.suffix) and frozen.is_file() and frozen.read_bytes() == file.read_bytes()
    return inside if is_frozen else file


def _is_compiled() -> bool:
    """Return whether torch's bytecode exists. If so, runs write no bytecode, and the frozen source has no such files.

    Otherwise the first run writes bytecode: compiling torch and Lightning takes ten seconds.
    """
    torch = find_spec("torch")
    return torch is not None and torch.origin is not None and Path(cache_from_source(torch.origin)).is_file()
