"""The job of a run on a cluster with Slurm, as text: `job.sbatch`, and `node`, which srun starts once on each machine.

The texts depend only on the plan, the site and the folder of the run or sweep, and can be read and submitted by hand. The tasks end with
the exit codes of `train`: 75 means that the run is saved and can be resumed, and the job is requeued if node 0, which keeps the record,
ends with 75. The job of a sweep is an array, each of whose tasks trains one point: the file `points` has each task's run and words.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from trainer.base.errors import PreemptedError, UsageError
from trainer.runs.run import SUBMISSION
from trainer.sites.slurm_node import POINTS, RUNS, USES_POINTS, JobFolders, assigned, node_lines, points_lines
from trainer.source.capture import ARCHIVE, COPY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from trainer.sites.plan import Plan
    from trainer.sites.site import SlurmSite

JOB: Final = "job.sbatch"
NODE: Final = "node"
SUBMISSIONS: Final = "submissions"
"""The folder in a sweep's folder with the sweep's jobs, each in a separate folder."""
LOG: Final = "log.txt"
"""The file with the output of all starts of the job."""
LOGS: Final = "logs"
"""The folder in a sweep's folder with the output of each point."""
CANCELLED: Final = "cancelled-"
"""The prefix of the name of a file that prevents the requeue of a job; the job's number follows."""
_UNMOUNTABLE: Final = re.compile(r"[\x00-\x1f\x7f:,\\]")


def require_mountable(folder: Path) -> None:
    """Raise `UsageError` if a path has a character that a runtime does not support in mounts."""
    if found := _UNMOUNTABLE.search(str(folder)):
        message = f"{str(folder)!a} has the character {found[0]!a}, which a mount of a container cannot have"
        raise UsageError(message, hint="use another path; the folder of runs is REPRISE_RUNS")


def job_files(
    plan: Plan, site: SlurmSite, *, folder: Path, number: int = 1, mounts: Sequence[Path] = ()
) -> dict[str, str]:
    """Return the contents of a job's files by name; `folder` is the run's folder, as every machine sees it, `mounts` are further folders.

    With points, `folder` is the sweep's folder, and `number` the submission's number. Raise `UsageError` if a path cannot be mounted.
    """
    mounted = [*dict.fromkeys([*map(str, mounts), *site.mounts])]
    for path in (folder, *mounts):
        require_mountable(path)
    folders = _folders(plan, folder, number)
    files = {
        JOB: "\n".join([*_header(plan, site), *_body(plan, site, folders, mounted), ""]),
        NODE: "\n".join([*node_lines(plan, site, folders, mounted), ""]),
    }
    return files | ({POINTS: "\n".join([*points_lines(plan), ""])} if plan.points else {})


def _folders(plan: Plan, folder: Path, number: int) -> JobFolders:
    if plan.points:
        sweep = f"$runs/{folder.parent.name}/{plan.run}"
        return JobFolders(
            runs=folder.parents[1],
            submission=folder / SUBMISSIONS / str(number),
            project=folder / COPY,
            archive=f"{sweep}/{ARCHIVE}",
            described=f"{sweep}/{SUBMISSIONS}/{number}",
            mounted=f"{sweep}/{COPY}",
        )
    inside = f"{SUBMISSION}/{COPY}" if plan.is_rerun else COPY
    return JobFolders(
        runs=folder.parent,
        submission=folder / SUBMISSION,
        project=folder / inside,
        archive=f"$folder/{ARCHIVE}",
        described=f"$folder/{SUBMISSION}",
        mounted=f"$folder/{inside}",
    )


def _header(plan: Plan, site: SlurmSite) -> Iterator[str]:
    yield "#!/bin/bash"
    if plan.points:
        yield f"# Sweep {plan.run}, written by `reprise sweep --to`, which submits unfinished points again."
        yield USES_POINTS
    else:
        about = "Rerun" if plan.is_rerun else "Certificate whose first run is" if plan.is_certificate else "Run"
        command = f"{plan.words[0]} --to" if plan.is_rerun or plan.is_certificate else "submit"
        again = "" if plan.is_certificate else f" To submit it again, type in this folder: sbatch {JOB}"
        yield f"# {about} {plan.run}, written by `reprise {command}`.{again}"
    limit = f"%{plan.parallel}" if plan.parallel else ""
    options = {
        "job-name": plan.name,
        "array": f"{_ranges([point.number for point in plan.points])}{limit}" if plan.points else None,
        "nodes": plan.nodes,
        "ntasks-per-node": 1,
        "partition": site.partition,
        "account": site.account,
        "time": site.time,
        "cpus-per-task": site.cpus,
        "mem": site.memory,
        "gpus-per-node": site.gpus or None,
        "signal": f"TERM@{site.grace}" if site.grace else None,
        "output": f"../../{LOGS}/%a.txt" if plan.points else LOG,
    }
    yield from (f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None)
    yield "#SBATCH --open-mode=append"
    yield "#SBATCH --no-requeue" if plan.is_certificate else "#SBATCH --requeue"
    yield from (line for line in site.lines if line.startswith("#SBATCH"))


def _ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers in Slurm's notation.

    >>> _ranges([1, 2, 3, 5, 7, 8])
    '1-3,5,7-8'
    """
    ends = [number for number in numbers if number + 1 not in numbers]
    starts = [number for number in numbers if number - 1 not in numbers]
    return ",".join(f"{start}" if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True))


def _body(plan: Plan, site: SlurmSite, folders: JobFolders, mounts: Sequence[str]) -> Iterator[str]:
    yield from (line for line in site.lines if not line.startswith("#SBATCH"))
    yield "set -u"
    if plan.points:
        yield from (assigned("runs", str(folders.runs)), assigned("submission", str(folders.submission)))
        yield from (f'. "$submission/{POINTS}"', f"folder=$runs/$run/{SUBMISSION}")
    else:
        yield assigned("folder", str(folders.submission))
    yield "starts=${SLURM_RESTART_COUNT:-0}"
    if plan.nodes > 1:
        yield from (
            'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            'export REPRISE_MAIN_ADDRESS="$first:$((20000 + (SLURM_JOB_ID + starts) % 10000))"',
        )
    words = ["srun", "--export=ALL", "--kill-on-bad-exit=0", "--wait=0"]
    words += [f"--cpus-per-task={site.cpus}"] if site.cpus else []
    words += _pyxis_options(plan, site, folders, mounts) if site.runtime == "pyxis" else []
    script = f'"${"submission" if plan.points else "folder"}/{NODE}"'
    if site.runtime == "pyxis":
        script = shlex.quote(f"{RUNS}/{folders.submission.relative_to(folders.runs)}/{NODE}")
    again = "the command of the sweep again" if plan.points else f"in its folder submission: sbatch {JOB}"
    yield _JOB.format(
        srun=f"{shlex.join(words)} bash {script}",
        cancelled=CANCELLED,
        saved=PreemptedError.code,
        job="$job" if plan.points else "$SLURM_JOB_ID",
        again=f"type {again}",
    )


_JOB: Final = """\
echo "reprise: job {job}, start $((starts + 1)), on $SLURM_JOB_NODELIST" >&2
trap : TERM # the tasks also get the signal: this shell waits for their end
code=0 waited=0
{srun} &
while kill -0 $! 2>/dev/null; do
    sleep 2
    [ ! -e "$folder/ended-{job}-$starts" ] || waited=$((waited + 2))
    # the other machines would wait ten minutes if node 0 failed before they met
    [ "$waited" != 60 ] || scancel --signal=TERM "{job}"
done
wait $! || code=$?
ended=$(cat "$folder/ended-{job}-$starts" 2>/dev/null) || ended=none
echo "reprise: the tasks ended with exit code $code, that of node 0 with $ended" >&2
if [ "$ended" = {saved} ] && [ ! -e "$folder/{cancelled}{job}" ]; then
    echo "reprise: the run is saved; the job is requeued to resume it" >&2
    trap 'exit {saved}' TERM # Slurm ends this shell and scontrol
    if scontrol requeue "{job}"; then
        sleep 60
        exit {saved}
    fi
    echo "reprise: Slurm did not requeue the job; to resume the run, {again}" >&2
fi
[ "$ended" = none ] || code=$ended
exit "$code\""""


def _pyxis_options(plan: Plan, site: SlurmSite, folders: JobFolders, mounts: Iterable[str]) -> list[str]:
    """Return the options of srun with which Pyxis starts the image; the script `node` runs in the container."""
    host, _, name = plan.image.partition("/")
    image = site.image if site.image and site.image.startswith("/") else f"{host}#{name}"
    pairs = [(f"{folders.project}", "/project:ro"), (f"{folders.runs}", RUNS), (site.cache, "/cache"), ("/tmp", "/tmp")]  # noqa: S108 - a mount path
    mounted = ",".join(f"{source}:{target}" for source, target in [*pairs, *((path, path) for path in mounts)])
    options = [f"--container-image={image}", f"--container-mounts={mounted}", "--container-workdir=/project"]
    return [*options, "--no-container-mount-home", "--no-container-entrypoint", *site.options]
