"""The recorded run of a script: start it, store its outputs, read its results, and report which guarantees the run lacks."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import DocumentError
from trainer.base.run_files import attempt_root
from trainer.base.safe_folder import run_root
from trainer.base.suggestions import counted, listed
from trainer.runs.outputs import FOLDER
from trainer.source.capture import COPY
from trainer.source.project import FOLDER as PROJECT
from trainer.source.project import frozen_project, import_roots
from trainer.training.scripts.outputs import write_outputs
from trainer.training.scripts.process import run_script, script_environ
from trainer.training.scripts.results import EVENTS, ScriptResults, metric_lines, read_results
from trainer.training.scripts.script import LIMITS, require_supported
from trainer.training.trained import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from trainer.base.safe_folder import Root
    from trainer.training.resuming.stop_requests import StopRequest
    from trainer.training.scripts.script import Script
    from trainer.training.settings import ScriptSettings

ACCESSES: Final = "accesses.txt"
"""A file in the attempt's folder that lists the detected accesses of the script that the run does not record."""
_METRICS: Final = "metrics.jsonl"
_SKIPPED: Final = ("__pycache__/", ".git/")
_PHRASES: Final = {
    "network": "the script connected to {}: the received data are not recorded",
    "reads": "the script read {}, which is neither source nor a dataset: it is not recorded",
    "writes": "the script wrote {}, outside of {{run}}: it is not kept",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptJob:
    """The inputs of a script's run."""

    script: Script
    settings: ScriptSettings
    folders: Mapping[str, Path]
    """The folders of the datasets that the script's arguments name."""
    attempt: Path
    device: str
    stop: StopRequest
    say: Callable[[str], None]
    note: Callable[[str], None]
    """Adds text to the attempt's log."""
    on_start: Callable[[], None]
    """Called when the script starts: from then on the run is recorded."""
    on_limit: Callable[[str, str], Any]


def run(job: ScriptJob) -> Result:
    """Run the script to its end, and return its results. Raise `SettingError` if the settings ask for several devices or shards.

    Raise `ExperimentFailedError` if the script fails, and `StoppedError` if a signal stopped it; its outputs are kept in both cases.
    """
    require_supported(job.settings)
    output, source = job.attempt / FOLDER, job.attempt.parents[1] / COPY
    project = frozen_project(job.script.file)
    command = job.script.command(job.settings, output=output, folders=job.folders)
    environ = script_environ(
        os.environ,
        imports=[source, *(import_roots(job.script.file, project) if project else ())],
        output=output,
        report=job.attempt / ACCESSES,
        folders=[*job.folders.values()],
        device=job.device,
    )
    with attempt_root(job.attempt) as root:
        root.mkdir(FOLDER)
    before = _states(source)
    for name, reason in LIMITS.items():
        job.on_limit(name, reason)
    job.on_start()
    try:
        run_script(command, folder=project or source, environ=environ, log=job.note, stop=job.stop)
    finally:
        _keep_outputs(job, before)
        table = write_outputs(job.attempt, exclude=job.settings.exclude)
    results = _results(job, output)
    with attempt_root(job.attempt) as root:
        root.write_whole(_METRICS, metric_lines(results))
    job.say(f"{counted(len(table.outputs), 'output')} in {FOLDER}/; {_where(results)}")
    return Result(metrics=results.metrics, outputs=table.digest, tolerances=dict(job.settings.tolerances))


def _where(results: ScriptResults) -> str:
    if results.file:
        return f"results from {results.file}"
    return f"no results: {results.fault or 'no output file has a usual name; --results names one'}"


def _results(job: ScriptJob, output: Path) -> ScriptResults:
    """Read the results. The script has ended, so unreadable results are reported as a limit of the run, not as a failure."""
    name = job.settings.results
    try:
        found = read_results(output, name)
    except DocumentError as fault:
        found = ScriptResults(fault=fault.message.replace(f"{output}/", ""))
    if not found.metrics and (name or found.fault or found.file):
        job.on_limit("results", found.fault or f"{found.file} holds no number: --results FILE names another file")
    elif others := _like(found.file, output) if name is None and found.file else ():
        also = listed([each.relative_to(output).as_posix() for each in others])
        job.on_limit("results", f"only {found.file} was read, not {also}: --results FILE names another file")
    return found


def _like(file: str, output: Path) -> list[Path]:
    """Return the outputs in other folders that have the usual name of `file`, or the first event file of each other folder."""
    read = output / file
    pattern = f"{EVENTS}*" if read.name.startswith(EVENTS) else read.name
    found = {
        path.parent: path
        for path in sorted(output.rglob(pattern), reverse=True)
        if path.is_file() and not path.is_symlink()
    }
    return sorted(path for folder, path in found.items() if folder != read.parent)


def _states(source: Path) -> dict[str, tuple[int, int]]:
    with run_root(source.parent) as run, run.below(COPY) as folder:
        return dict(_files(folder))


def _files(folder: Root) -> Iterator[tuple[str, tuple[int, int]]]:
    for path, status in folder.walk():
        if stat.S_ISREG(status.st_mode) and not any(each in f"{path}/" for each in _SKIPPED):
            yield path, (status.st_size, status.st_mtime_ns)


def _keep_outputs(job: ScriptJob, before: Mapping[str, tuple[int, int]]) -> None:
    """Move files that the script created or changed in the source to its outputs.

    Report changed source files, links among the outputs, and accesses that the run does not record.
    """
    changed = []
    with (
        run_root(job.attempt.parents[1]) as run,
        run.below(COPY) as source,
        attempt_root(job.attempt) as root,
        root.below(FOLDER) as output,
    ):
        for path, state in [*_files(source)]:
            if before.get(path) == state:
                continue
            changed += [path] if path in before else []
            name = path.removeprefix(f"{PROJECT}/")
            if output.stat(name) is None:
                with output.create(name, make=True):
                    pass  # only to create the parent folders
                source.rename(path, name, to=output)
        special = sorted(
            path
            for path, status in output.walk()
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode)
        )
    if special:
        job.on_limit(
            "links",
            f"the script's outputs hold {_some(special)}, a link or a special file: it is neither compared nor published",
        )
    if changed:
        job.on_limit("source", f"the script changed {_some(changed)} of its source")
    for kind, found in _accesses(job.attempt).items():
        job.on_limit(kind, _PHRASES[kind].format(_some(found)))


def _accesses(attempt: Path) -> dict[str, list[str]]:
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    with attempt_root(attempt) as root:
        text = root.read(ACCESSES).decode(errors="replace") if root.has_file(ACCESSES) else ""
    for line in text.splitlines():
        kind, _, what = line.partition("\t")
        if kind in _PHRASES:
            found[kind][what] = None
    # without the script's temporary files: read by another of its processes, or deleted
    found["reads"] = {path: None for path in found["reads"] if path not in found["writes"]}
    found["writes"] = {path: None for path in found["writes"] if Path(path).exists()}
    return {kind: [*each] for kind, each in sorted(found.items()) if each}


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
