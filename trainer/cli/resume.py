"""`reprise train --resume RUN`: finds the run, checks whether it may be resumed, and builds the command line of its next attempt.

The training process checks which ingredients may differ from the earlier attempts.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import ResumeError, RunNotFoundError, UntrustedCodeError, UsageError
from trainer.base.run_files import attempt_root
from trainer.base.safe_folder import run_root
from trainer.cli.checkout import wake_store
from trainer.cli.configuration import CHECKOUT, dotenv_adopted, give_to_container_user, host_name, runs_folder
from trainer.cli.containers import require_set_up
from trainer.cli.experiments import COPIED_EXPERIMENT
from trainer.cli.find_run import find_run, pull_later_attempts
from trainer.cli.messages import spelled
from trainer.cli.output import one_line, print_progress
from trainer.cli.runner.container import ContainerRunner
from trainer.cli.trust import TrustDecision, grants, own_attempts_of, require_checkpoint_trust, require_trust
from trainer.comparison.examine_run import find_datasets
from trainer.comparison.noise import is_same_value
from trainer.comparison.reproduce import prepare_rerun
from trainer.comparison.rerun import SERVICES, resume_arguments
from trainer.data.declaration import Dataset
from trainer.runs.checkpoint_pointer import FOLDER as CHECKPOINTS
from trainer.runs.checkpoint_pointer import LATEST, has_pickle
from trainer.runs.image_file import IMAGE_FILE
from trainer.runs.record import RunStatus
from trainer.runs.resume import (
    archive_observed_image,
    parse_allowed,
    record_with_current_settings,
    require_not_running,
    require_resumable,
    require_source,
)
from trainer.runs.run import ATTEMPTS, attempts, record_of, recorded_attempts
from trainer.settings.fields import CONFINED
from trainer.settings.hints import option
from trainer.settings.origins import as_words, setting_options
from trainer.settings.variables import ENVIRONMENT_PREFIX
from trainer.source.capture import ARCHIVE, COPY
from trainer.source.copy import load_bundle
from trainer.source.project import FOLDER as PROJECT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, MutableMapping
    from pathlib import Path

    from trainer.runs.record import Record
    from trainer.settings.origins import Options

_SETTINGS = "settings.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The permission to resume a run, with its conditions."""

    folder: Path
    word: TrustDecision
    passed: list[int] = field(default_factory=list)
    """Attempts from another user or machine that are not trusted."""
    is_registered: bool = True
    """Whether the register has an attempt of the run, so that only the user's code wrote into its folder."""
    is_own: bool = True
    """Whether the run's code is the user's own."""
    is_isolated: bool = False
    """Whether the run's code has access to its run folder only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """A run with the command line of its next attempt."""

    folder: Path
    record: Record
    argv: list[str]
    """The arguments of the run's experiment and settings, for its frozen source, followed by the settings on this command line."""
    allowed: list[str]
    passed: list[int]
    """Attempts from another user or machine that are not trusted."""

    @property
    def source(self) -> Path:
        """The run's frozen source."""
        return self.folder / COPY


def find_run_to_resume(options: Options) -> Path:
    """Return the folder of the run to resume; pull the run if it is in the store only.

    Raise `UsageError` for options that contradict `--resume`, `RunNotFoundError` if the run is not found.
    """
    name = options["resume"]
    if not name:
        raise UsageError("--resume needs a run", hint="`reprise runs ls` lists them")
    if "print_settings" in options:
        hint = f"`reprise runs show {name}` shows the settings of the run with their origins"
        raise UsageError("found --print-settings with --resume, which uses the settings of the run", hint=hint)
    for other in ("exp", "script", "settings"):
        if other in options:
            raise UsageError(
                f"found --{other} with --resume, which uses the run's own", hint=f"remove --{other}, or start a new run"
            )
    folder = _find(name)
    pull_later_attempts(folder)
    return folder


def _find(name: str) -> Path:
    try:
        return find_run(name).folder
    except RunNotFoundError:
        if IMAGE_FILE.exists() or not (CHECKOUT / ".env").is_file():
            raise
    wake_store()
    with dotenv_adopted():
        return find_run(name).folder


def admit(folder: Path, options: Options) -> Admission:
    """Return how a run may be resumed; ask the user if its code or its checkpoints are not the user's own.

    Raise `UntrustedCodeError` if the user does not agree, or if a checkpoint that is not the user's own is a pickle; `UsageError` for an
    unknown name after --grant.
    """
    recorded, own = recorded_attempts(folder), own_attempts_of(folder)
    word = TrustDecision(
        trusted="trust" in options,
        granted=grants(options.get("grant")),
        command=f"reprise train --resume {folder.name}",
    )
    if CONFINED in os.environ or not recorded:  # the launcher has asked the user, or the run has no recorded code
        return Admission(folder=folder, word=word)
    if own:
        return Admission(folder=folder, word=word, passed=list(_skip_others(folder, own, word)))
    record, is_isolated = record_of(folder), not IMAGE_FILE.exists() and "machine" not in word.granted
    if not require_trust(record, folder, word, is_isolated=is_isolated, in_its_image=False):
        return Admission(folder=folder, word=word, is_registered=False, is_own=False, is_isolated=is_isolated)
    if any(_has_pickle(folder, number) for number in recorded):
        message = f"the checkpoints of run {folder.name}, from another user or machine, are pickles of an older version, which are rejected"
        raise UntrustedCodeError(message, hint="start a new run")
    with run_root(folder) as run:
        has_checkpoint = any(run.stat(f"{ATTEMPTS}/{number}/{CHECKPOINTS}/{LATEST}") for number in recorded)
    if has_checkpoint:
        require_checkpoint_trust(record, word)
    return Admission(folder=folder, word=replace(word, trusted=True), is_registered=False)


def _has_pickle(folder: Path, number: int) -> bool:
    with attempt_root(folder / ATTEMPTS / str(number)) as attempt:
        return has_pickle(attempt)


def _skip_others(folder: Path, own: Collection[int], word: TrustDecision) -> Iterator[int]:
    """Yield the attempts from another user or machine that are not used; print a line for each with a record."""
    recorded = recorded_attempts(folder)
    for number in attempts(folder):
        if number in own or (word.trusted and not _has_pickle(folder, number)):
            continue
        if number not in recorded:
            yield number
            continue
        host = one_line(record_of(folder, number).circumstances.host.name)
        reason = "its checkpoint is a pickle" if word.trusted else "--trust uses it"
        print(f"skipped: attempt {number}, from another user or machine, host {host} ({reason})", file=sys.stderr)
        yield number


def prepare(options: Options, admission: Admission) -> Resumption:
    """Prepare the next attempt of a run.

    Raise `ResumeError` if the run cannot be resumed, `DigestMismatchError` if its source was changed, `UsageError` for an unknown name
    after --allow.
    """
    folder, passed = admission.folder, admission.passed
    allowed = parse_allowed(options.get("allow") or "")
    record = require_resumable(folder, host=host_name(), passed=passed)
    require_source(folder, record.ingredients.source, unpack_again=not admission.is_registered)
    _require_recent_source(folder, passed)
    current = record_with_current_settings(folder, passed=passed)
    for line in (*notes(record, current, typed=options), *set_aside_environment(current, os.environ)):
        print(line, file=sys.stderr)
    recorded_options = resume_arguments(current)
    with disk_faults(folder), run_root(folder) as run:
        run.write_whole(_SETTINGS, recorded_options.file())
    setting_arguments = as_words(setting_options(options, own={"resume", "allow", "trust", "grant"}))
    return Resumption(
        folder=folder,
        record=record,
        argv=[*recorded_options.words(str(folder / _SETTINGS))[1:], *setting_arguments],
        allowed=allowed,
        passed=passed,
    )


def resume_isolated(options: Options, admission: Admission) -> int:
    """Run the next attempt in a container of the recorded image; return its exit status.

    Raise `ResumeError` if the run cannot be resumed, `DigestMismatchError` if its source was changed, `EngineError` if the engine fails.
    """
    folder, granted = admission.folder, admission.word.granted
    require_set_up("training")
    require_not_running(folder)
    record = require_resumable(folder, host=host_name())
    require_source(folder, record.ingredients.source, unpack_again=True)
    bundle = load_bundle(folder / ARCHIVE, digest=record.ingredients.source)
    archive_observed_image(folder)
    setting_arguments = as_words(
        setting_options(options, own={"resume", "trust", "grant", "json", "publish", "no_publish"})
    )
    unpublished = [] if "store" in granted else ["--no-publish"]
    used = [name for name in SERVICES if record.circumstances.execution.get(name, "off") != "off"]
    offline = [] if granted else [f"--{name}=off" for name in used]
    with dotenv_adopted():
        runner = ContainerRunner(granted)
        print_progress(f"resuming run {record.run}: {runner.isolation}")
        with prepare_rerun(
            record,
            bundle,
            runs=runs_folder(),
            existing=folder,
            resumes=True,
            more=(*setting_arguments, *unpublished, *offline),
        ) as ready:
            runner.provide_datasets(
                [item for item in find_datasets(record, bundle) if isinstance(item, Dataset)], ready
            )
            give_to_container_user(folder, checkout=CHECKOUT)
            code, _ = runner.run(ready)
    if "store" not in granted:
        print_progress(
            spelled(f"not published, because the container had no keys; to publish: reprise runs publish {record.run}")
        )
    return code


def notes(record: Record, current: Record, *, typed: Collection[str]) -> Iterator[str]:
    """Yield lines about the failure of the last attempt, and about settings that differ from the first attempt's."""
    outcome, name = record.outcome, record.ingredients.experiment
    inside = name.removeprefix(f"{PROJECT}/").removeprefix(f"{COPIED_EXPERIMENT}/")
    experiment = f"PATH/OF/{inside}" if inside != name else name
    if outcome.status is RunStatus.FAILED:
        yield f"attempt {record.attempt} failed: {one_line(outcome.reason or 'its record has no reason')}"
        yield (
            "  -> the run resumes with its own frozen source, without later edits;"
            f" to use them, start a new run: {spelled(f'reprise train --exp {shlex.quote(experiment)}')}"
        )
    first = record.ingredients.settings
    for setting, value in current.ingredients.settings.items():
        if value != first.get(setting) and setting not in typed:
            first_text, current_text = (json.dumps(each, ensure_ascii=False) for each in (first.get(setting), value))
            yield f"setting {setting} is {current_text}, as in attempt {record.attempt}; the run began with {first_text}"


def set_aside_environment(record: Record, environ: MutableMapping[str, str]) -> list[str]:
    """Remove the variables of recorded settings from `environ`; return a line for each variable whose value differs from the record.

    Variables of secrets, which a record does not contain, and of unknown settings, which are rejected later, stay.
    """
    values = record.circumstances.execution | record.ingredients.settings
    lines: list[str] = []
    for variable in sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX)):
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name not in values:
            continue
        text = environ.pop(variable)
        if not is_same_value(text, values[name]):
            allowed = " --allow settings" if name in record.ingredients.settings else ""
            lines.append(
                f"{variable}={text} is not used: run {record.run} has the value {values[name]};"
                f" to change it: {option(name)} {text}{allowed}"
            )
    return lines


def _require_recent_source(folder: Path, passed: Collection[int]) -> None:
    """Raise `ResumeError` if the run's source is older than `--resume`, or too old to skip the attempts `passed`."""
    with run_root(folder) as run:
        launch = f"{COPY}/trainer/runs/handoff.py"
        text = run.read(launch).decode(errors="replace") if run.stat(launch) is not None else ""
    if "resumes:" not in text:
        raise ResumeError(
            f"run {folder.name} cannot be resumed: its recorded source predates --resume",
            hint=f"start a new run; `reprise runs show {folder.name}` shows the run's command",
        )
    if passed and "passed:" not in text:
        raise ResumeError(
            f"the source of run {folder.name} is too old to skip attempts from another user or machine",
            hint=f"`reprise train --resume {folder.name} --trust` uses them; or start a new run",
        )
