"""`reprise train --resume RUN`: the words with which a run's next attempt is started.

Knows what a run was given, and that it goes on from its own frozen source. Refuses to judge whether it may go on otherwise than it began:
the training process does, which knows all ingredients.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import ResumeError, RunNotFoundError, UntrustedCodeError, UsageError
from trainer.base.run_files import attempt_root
from trainer.base.safe_folder import run_root
from trainer.cli.experiments import BROUGHT
from trainer.cli.output import one_line
from trainer.cli.places import CHECKOUT, dotenv_adopted, host_name
from trainer.cli.reproduce.original import original
from trainer.cli.spelling import spelled
from trainer.cli.trust import Word, grants, own_attempts_of, require_checkpoint_trust, require_trust
from trainer.comparison.measure_noise import means
from trainer.comparison.rerun import going_on
from trainer.runs.checkpoint_pointer import FOLDER as CHECKPOINTS
from trainer.runs.checkpoint_pointer import LATEST, has_pickle
from trainer.runs.image_claim import BAKED
from trainer.runs.record import Status
from trainer.runs.resume import (
    move_seen_image,
    parse_allowed,
    record_with_current_settings,
    require_resumable,
    require_source,
)
from trainer.runs.run import ATTEMPTS, attempts, record_of, recorded_attempts
from trainer.settings.fields import CONFINED, ENVIRONMENT_PREFIX
from trainer.settings.hints import option
from trainer.source.capture import COPY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, MutableMapping
    from pathlib import Path

    from trainer.runs.record import Record
    from trainer.settings.origins import Words

_SETTINGS = "settings.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A run that may be resumed, and how."""

    folder: Path
    word: Word
    passed: list[int] = field(default_factory=list)
    """Attempts that were made elsewhere and are not trusted."""
    is_registered: bool = True
    """Whether an attempt of it is in the register: then no other code than the user's own wrote into its folder."""
    is_own: bool = True
    """Whether its code is the user's own."""
    is_isolated: bool = False
    """Whether its code runs with nothing but its own run's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A run that goes on."""

    folder: Path
    record: Record
    argv: list[str]
    """The command line that it was begun with, as it is typed in its frozen source; what is given anew comes last."""
    allowed: list[str]
    passed: list[int]
    """Attempts that were made elsewhere and are not trusted."""

    @property
    def source(self) -> Path:
        """What runs."""
        return self.folder / COPY


def found(words: Words) -> Path:
    """The folder of the run to go on with, pulled from the store where it is not here. Raises `UsageError`, `RunNotFoundError`."""
    name = words.options["resume"]
    if not name:
        raise UsageError("--resume needs a run", hint="`reprise runs ls` lists them")
    for other in ("exp", "settings"):
        if other in words.options:
            raise UsageError(f"--{other} beside --resume: the run has its own", hint="leave it out, or start a new run")
    try:
        return original(name).folder
    except RunNotFoundError:
        if BAKED.exists() or not (CHECKOUT / ".env").is_file():
            raise
    from trainer.cli.runner.on_host import wake_store

    wake_store()
    with dotenv_adopted():
        return original(name).folder


def admitted(folder: Path, words: Words) -> Admitted:
    """Say how a run may be resumed; show and ask if its code or its checkpoints are not the user's own.

    Raises `UntrustedCodeError`, `UsageError`.
    """
    known, own = recorded_attempts(folder), own_attempts_of(folder)
    word = Word(
        trusted="trust" in words.options,
        granted=grants(words.options.get("grant")),
        command=f"reprise train --resume {folder.name}",
    )
    if CONFINED in os.environ or not known:  # the user was asked before it was started; or there is nothing to run
        return Admitted(folder=folder, word=word)
    if own:
        return Admitted(folder=folder, word=word, passed=list(_passed(folder, own, word)))
    record, is_isolated = record_of(folder), not BAKED.exists() and "machine" not in word.granted
    if not require_trust(record, folder, word, is_isolated=is_isolated, in_its_image=False):
        return Admitted(folder=folder, word=word, is_registered=False, is_own=False, is_isolated=is_isolated)
    if any(_has_pickle(folder, number) for number in known):
        said = f"the checkpoints of run {folder.name} are pickles of an older version, which are not read if they were made elsewhere"
        raise UntrustedCodeError(said, hint="start a new run")
    with run_root(folder) as run:
        is_begun = any(run.stat(f"{ATTEMPTS}/{number}/{CHECKPOINTS}/{LATEST}") for number in known)
    if is_begun:
        require_checkpoint_trust(record, word)
    return Admitted(folder=folder, word=replace(word, trusted=True), is_registered=False)


def _has_pickle(folder: Path, number: int) -> bool:
    with attempt_root(folder / ATTEMPTS / str(number)) as attempt:
        return has_pickle(attempt)


def _passed(folder: Path, own: Collection[int], word: Word) -> Iterator[int]:
    """The attempts on the user's own run that were made elsewhere and are not used; a line reports each that has a record."""
    known = recorded_attempts(folder)
    for number in attempts(folder):
        if number in own or (word.trusted and not _has_pickle(folder, number)):
            continue
        if number not in known:
            yield number
            continue
        host = one_line(record_of(folder, number).circumstances.host.name)
        why = "its checkpoint is a pickle" if word.trusted else "--trust uses it"
        print(f"passed over: attempt {number}, made elsewhere, on {host} ({why})", file=sys.stderr)
        yield number


def again(words: Words, admission: Admitted) -> Again:
    """Make ready to go on with a run that was admitted. Raises `ResumeError`, `DigestMismatchError`, `UsageError`."""
    folder, passed = admission.folder, admission.passed
    allowed = parse_allowed(words.options.get("allow") or "")
    record = require_resumable(folder, here=host_name(), passed=passed)
    require_source(folder, record.ingredients.source, unpack_again=not admission.is_registered)
    _require_able(folder, passed)
    was = record_with_current_settings(folder, passed=passed)
    for line in (*told(record, was, given=words.options), *set_aside_environment(was, os.environ)):
        print(line, file=sys.stderr)
    given = going_on(was)
    with disk_faults(folder), run_root(folder) as run:
        run.write_whole(_SETTINGS, given.file())
    anew = given_anew(words, without={"resume", "allow", "trust", "grant"})
    return Again(
        folder=folder,
        record=record,
        argv=[*given.words(str(folder / _SETTINGS))[1:], *anew],
        allowed=allowed,
        passed=passed,
    )


def given_anew(words: Words, *, without: Collection[str]) -> list[str]:
    """The options of a command line as they are typed, but for some."""
    return [
        f"--{name.replace('_', '-')}" + ("" if value is None else f"={value}")
        for name, value in words.options.items()
        if name not in without
    ]


def told(record: Record, was: Record, *, given: Collection[str]) -> Iterator[str]:
    """Say what a person who types --resume may not expect: how the last attempt failed, and which settings are not the run's first."""
    outcome, name = record.outcome, record.ingredients.experiment
    experiment = f"PATH/OF/{name.removeprefix(f'{BROUGHT}/')}" if name.startswith(f"{BROUGHT}/") else name
    if outcome.status is Status.FAILED:
        yield f"attempt {record.attempt} failed: {one_line(outcome.reason or 'its record does not say why')}"
        yield (
            "  -> it goes on with the run's own frozen source: what was edited since is not in it;"
            f" for that, a new run: {spelled(f'reprise train --exp {experiment}')}"
        )
    began = record.ingredients.settings
    for setting, value in was.ingredients.settings.items():
        if value != began[setting] and setting not in given:
            first, now = (json.dumps(each, ensure_ascii=False) for each in (began[setting], value))
            yield f"setting {setting} is {now}, as attempt {record.attempt} had it; the run began with {first}"


def set_aside_environment(record: Record, environ: MutableMapping[str, str]) -> list[str]:
    """Take from the environment what the run has a value for, and say, a line each, which of that is another one.

    What a record does not hold stays: a secret, and a name that no setting has, which is refused later.
    """
    values = record.circumstances.execution | record.ingredients.settings
    lines: list[str] = []
    for variable in sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX)):
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name not in values:
            continue
        text = environ.pop(variable)
        if not means(text, values[name]):
            allowed = " --allow settings" if name in record.ingredients.settings else ""
            lines.append(
                f"{variable}={text} is not used: run {record.run} goes on with {values[name]};"
                f" to change it: {option(name)} {text}{allowed}"
            )
    return lines


def _require_able(folder: Path, passed: Collection[int]) -> None:
    """Raise `ResumeError` where the run's own source is of a time when no run could be gone on with."""
    with run_root(folder) as run:
        launch = f"{COPY}/trainer/runs/handoff.py"
        text = run.read(launch).decode(errors="replace") if run.stat(launch) is not None else ""
    if "resumes:" not in text:
        said = f"run {folder.name} cannot go on: its own source, which is what would run, is older than --resume"
        raise ResumeError(said, hint=f"start a new run: `reprise runs show {folder.name}` shows its command")
    if passed and "passed:" not in text:
        said = f"the source of run {folder.name} is older than the rule that attempts made elsewhere are passed over"
        raise ResumeError(said, hint=f"`reprise train --resume {folder.name} --trust` uses them; or start a new run")


def begin_unseen(ready: Again, *, watched: bool) -> None:
    """Believe nothing about this attempt's image that was seen of an earlier one's."""
    if not watched:
        move_seen_image(ready.folder)
