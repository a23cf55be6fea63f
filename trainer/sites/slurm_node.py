"""The scripts of machines in a job on Slurm: `node`, which srun starts once on each machine, and `points`, for the tasks of an array job.

Each machine places the source and starts the image; node 0 writes its exit code into a file that the job reads.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.runs.image_file import RUN_VARIABLE
from trainer.runs.run import SUBMISSION
from trainer.source.capture import PREPARED_RUN_VARIABLE, SOURCE_DESCRIPTION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from trainer.sites.plan import Plan
    from trainer.sites.site import SlurmSite

POINTS: Final = "points"
USES_POINTS: Final = "# shellcheck disable=SC2154 # the file `points` assigns run, point and job"
RUNS: Final = "/project/runs"
"""The folder of runs in every image."""
_OPTION: Final = "resume-or-begin"
_INSPECTED: Final = (
    '{"format":"reprise.image-seen/1","container":"CONTAINER","reference":"IMAGE","manifest":"MANIFEST",'
    '"config":{{if eq .Id "CONFIG"}}"CONFIG"{{else}}null{{end}},'
    '"build_id":{{with index .Config.Labels "reprise.build-id"}}"{{.}}"{{else}}null{{end}},"layers":{{json .RootFS.Layers}}}'
)
"""The template of `docker image inspect` for the document about an image, `trainer.runs.image_claim.ObservedImage`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFolders:
    """The folders of a job, as every machine sees them, and some of their paths as the scripts spell them."""

    runs: Path
    submission: Path
    """The folder with the files of the job."""
    project: Path
    """The source that containers see as /project."""
    archive: str
    """The path of the source's archive in a machine's script."""
    described: str
    """The path of the folder with the source's description in a machine's script."""
    mounted: str
    """The path of the project in a machine's script."""


def assigned(name: str, value: str) -> str:
    """Return a line that assigns a text to a variable."""
    return f"{name}={shlex.quote(value)}"


def array(name: str, words: Iterable[str]) -> str:
    """Return a line of bash that assigns strings to an array."""
    return f"{name}=({' '.join(map(shlex.quote, words))})"


def points_lines(plan: Plan) -> Iterator[str]:
    """Yield the lines that set a task's run and the options of its point."""
    yield "# The tasks of the job: the run of each point, and its options."
    yield "# shellcheck shell=bash disable=SC2034 # the scripts that read this file use the names"
    yield "case $SLURM_ARRAY_TASK_ID in"
    for point in plan.points:
        yield f"{point.number}) {assigned('run', point.run)} {array('point', point.words)} ;;"
    yield '*) echo "reprise: this sweep has no point $SLURM_ARRAY_TASK_ID" >&2; exit 1 ;;'
    yield from ("esac", "job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID")


def node_lines(plan: Plan, site: SlurmSite, folders: JobFolders, mounts: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the script that srun starts on each machine."""
    is_inside = site.runtime == "pyxis"
    names = [*dict.fromkeys([*plan.variables, *plan.secrets, *site.pass_on])]
    yield "#!/bin/bash"
    if plan.points:
        yield f"# A point of sweep {plan.run}: srun starts it in each task of the job."
        yield USES_POINTS
    else:
        yield f"# One machine's part of run {plan.run}: srun starts it once on each machine."
    yield "set -u"
    if not plan.points:
        yield assigned("run", plan.run)
    yield assigned("runs", RUNS if is_inside else str(folders.runs))
    if plan.points:
        yield f'. "{folders.described}/{POINTS}"'
    yield from (f"export {assigned(name, value)}" for name, value in plan.variables.items())
    yield array("words", plan.words)
    if plan.points:
        yield f'words+=(--{_OPTION}="$run" "${{point[@]}}")'
    yield array("names", names)
    yield _PREPARE.format(submission=SUBMISSION, job="$job" if plan.points else "$SLURM_JOB_ID")
    yield from _placed_source(plan, folders)
    yield _HOST
    if plan.nodes > 1:
        yield f"export REPRISE_NODES={plan.nodes} REPRISE_NODE=$SLURM_NODEID"
        yield "names+=(REPRISE_NODES REPRISE_NODE REPRISE_MAIN_ADDRESS)"
    yield from _start(plan, site, folders, mounts)


def _placed_source(plan: Plan, folders: JobFolders) -> Iterator[str]:
    """Yield the lines that place the run's source; a rerun takes the source from the recorded run."""
    if plan.is_rerun:
        return
    described = f"{folders.described}/{SOURCE_DESCRIPTION}"
    if plan.points:
        yield f'cp "{folders.archive}" "{described}" "$folder/" || exit 1'
        return
    yield _PLACE.format(
        archive=folders.archive, described=described, description=SOURCE_DESCRIPTION, prepared=PREPARED_RUN_VARIABLE
    )


_PREPARE: Final = """\
folder=$runs/$run
stopped=
trap stopped=yes TERM # the container also gets the signal: this shell waits for its end
scratch=
finish() {{
    local code=$?
    [ -z "$scratch" ] || rm -rf "$scratch"
    [ "$SLURM_NODEID" != 0 ] || echo "$code" >"$folder/{submission}/ended-{job}-${{SLURM_RESTART_COUNT:-0}}"
}}
trap finish EXIT
scratch=$(mktemp -d) || exit 1"""

_PLACE: Final = """\
if [ "$SLURM_NODEID" = 0 ]; then
    cp "{described}" "$folder/{description}" || exit 1
else # this machine keeps no record: the run's source is placed in a folder of its own
    runs=$scratch/runs
    mkdir -p "$runs/$run" && cp "{archive}" "{described}" "$runs/$run/" || exit 1
    export {prepared}=$run
    names+=({prepared})
fi"""

_HOST: Final = """\
REPRISE_HOST=$(hostname)
export REPRISE_HOST
names+=(REPRISE_HOST)"""


def _start(plan: Plan, site: SlurmSite, folders: JobFolders, mounts: Sequence[str]) -> Iterator[str]:
    """Yield the lines that start the image; the last command ends with the container's exit code."""
    if site.runtime == "pyxis":
        yield _PYXIS
        return
    yield assigned("cache", site.cache)
    yield 'mkdir -p "$cache" || exit 1'
    if site.runtime == "apptainer":
        image = site.image if site.image and site.image.startswith("/") else f"docker://{plan.image}"
        # A .sif file is unpacked: without privileges, a process would mount it, and Slurm's signal to all processes would end that process.
        unpacked = ["--unsquash"] if image.endswith(".sif") or "@" in image else []
        gpus = ["--nv"] if site.gpus else []
        yield array("options", [*unpacked, *gpus, *(f"--bind={path}" for path in mounts), *site.options])
        yield _APPTAINER.format(image=shlex.quote(image), project=folders.mounted)
        return
    yield assigned("image", plan.image)
    keep = ["--userns=keep-id"] if site.runtime == "podman" else []
    shared = f"--shm-size={site.shm.lower()}{'m' if site.shm.isdecimal() else ''}"
    yield array("options", [shared, *keep, *(f"--volume={path}:{path}" for path in mounts), *site.options])
    yield from _gpus(site)
    yield _PULL.format(engine=site.runtime)
    if not plan.is_rerun and not plan.is_certificate:  # which start several runs in the container
        yield from _inspected(plan, site)
    yield _ENGINE.format(engine=site.runtime, project=folders.mounted)


def _inspected(plan: Plan, site: SlurmSite) -> Iterator[str]:
    """Yield the script lines by which node 0 writes the engine's description of the image into the run's folder."""
    fields = {"IMAGE": plan.image, "MANIFEST": plan.image.rpartition("@")[2]}
    fields["CONFIG"] = plan.variables.get("REPRISE_IMAGE_CONFIG", "")
    filled = shlex.quote(re.sub(r"\b(?:IMAGE|MANIFEST|CONFIG)\b", lambda found: fields[found[0]], _INSPECTED))
    container = "reprise-'\"$run\"'-0" if plan.points else f"{plan.name}-0"
    template = filled.replace("CONTAINER", container)
    yield _IMAGE_SEEN.format(engine=site.runtime, template=template, watched=RUN_VARIABLE)


def _gpus(site: SlurmSite) -> Iterator[str]:
    if site.gpus and site.runtime == "docker":
        yield 'options+=(--gpus "\\"device=${SLURM_STEP_GPUS:-$SLURM_JOB_GPUS}\\"")'
    elif site.gpus:
        yield "gpus=${SLURM_STEP_GPUS:-$SLURM_JOB_GPUS}"
        yield 'for each in ${gpus//,/ }; do options+=(--device "nvidia.com/gpu=$each"); done'


_PULL: Final = """\
name=reprise-$run-$SLURM_NODEID
{engine} image inspect "$image" >/dev/null 2>&1 || {engine} pull "$image" || exit 1"""

_IMAGE_SEEN: Final = """\
if [ "$SLURM_NODEID" = 0 ]; then # the engine's description of the image: the run can then record the image as verified
    last=0
    while [ -d "$folder/attempts/$((last + 1))" ]; do last=$((last + 1)); done
    [ ! -e "$folder/image-seen.json" ] || [ "$last" = 0 ] || mv -n "$folder/image-seen.json" "$folder/attempts/$last/"
    {engine} image inspect --format {template} \\
        "$image" >"$folder/image-seen.json.partial" || exit 1
    mv "$folder/image-seen.json.partial" "$folder/image-seen.json"
    export {watched}=$run
    names+=({watched})
fi"""

_ENGINE: Final = """\
{engine} rm --force "$name" >/dev/null 2>&1 # of an earlier start that was killed
[ -z "$stopped" ] || exit 143
{engine} run --rm --name "$name" --network=host --user "$(id -u):$(id -g)" --read-only --cap-drop=ALL \\
    --security-opt=no-new-privileges --tmpfs /tmp:mode=1777,exec --tmpfs /home/reprise:mode=1777 \\
    --volume "{project}:/project:ro" --volume "$runs:/project/runs" --volume "$cache:/cache" \\
    "${{options[@]}}" "${{names[@]/#/--env=}}" "$image" "${{words[@]}}\""""

_APPTAINER: Final = """\
for name in "${{names[@]}}" CUDA_VISIBLE_DEVICES; do
    [ -z "${{!name+set}}" ] || export "APPTAINERENV_$name=${{!name}}"
done
mkdir "$scratch/work" || exit 1
[ -z "$stopped" ] || exit 143
apptainer --quiet exec --containall --cleanenv --no-home --workdir "$scratch/work" --pwd /project \\
    --bind "{project}:/project:ro" --bind "$runs:/project/runs" --bind "$cache:/cache" \\
    "${{options[@]}}" {image} python -m trainer "${{words[@]}}\""""

_PYXIS: Final = """\
export REPRISE_RUNS=$runs PYTHONPATH=/project PATH=/opt/venv/bin:$PATH # not those of the login machine
[ -z "$stopped" ] || exit 143
(unset "${!SLURM_@}" && python -m trainer "${words[@]}")"""
