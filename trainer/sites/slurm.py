"""The job of a run on a cluster with Slurm, as text: `job.sbatch`, and `node`, which srun starts once on each machine.

The texts are functions of plan, site and the run's folder, and can be read and submitted by hand. The tasks end with the exit codes of
`train`: 75 says that the run is saved and can be resumed, and only that of machine 0, which keeps the record, requeues the job.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from trainer.base.errors import UsageError
from trainer.runs.image_file import RUN_VARIABLE
from trainer.runs.run import SUBMISSION
from trainer.source.capture import ARCHIVE, COPY, PREPARED_RUN_VARIABLE, SOURCE_DESCRIPTION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from trainer.sites.plan import Plan
    from trainer.sites.site import SlurmSite

JOB: Final = "job.sbatch"
NODE: Final = "node"
LOG: Final = "log.txt"
"""The output of the job, of all its starts."""
CANCELLED: Final = "cancelled-"
"""The beginning of the name of a file that says that a job is not to be requeued; its number follows."""
_UNMOUNTABLE: Final = re.compile(r"[\x00-\x1f\x7f:,\\]")
_RUNS: Final = "/project/runs"
_INSPECTED: Final = (
    '{"format":"reprise.image-seen/1","container":"NAME","reference":"IMAGE","manifest":"MANIFEST",'
    '"config":{{if eq .Id "CONFIG"}}"CONFIG"{{else}}null{{end}},'
    '"build_id":{{with index .Config.Labels "reprise.build-id"}}"{{.}}"{{else}}null{{end}},"layers":{{json .RootFS.Layers}}}'
)
"""The document about an image, as a template of `docker image inspect`: see `trainer.runs.image_claim.ObservedImage`."""


def require_mountable(folder: Path) -> None:
    """Raise `UsageError` for a path that the mounts of some runtime cannot have."""
    if found := _UNMOUNTABLE.search(str(folder)):
        message = f"{str(folder)!a} has the character {found[0]!a}, which a mount of a container cannot have"
        raise UsageError(message, hint="use another path; the folder of runs is REPRISE_RUNS")


def job_files(plan: Plan, site: SlurmSite, *, folder: Path, mounts: Sequence[Path] = ()) -> dict[str, str]:
    """Return the texts of a job's files by name; `folder` is the run's, as every machine sees it, `mounts` are further folders.

    Raise `UsageError` for a path that cannot be mounted.
    """
    mounted = [*dict.fromkeys([*map(str, mounts), *site.mounts])]
    for path in (folder, *mounts):
        require_mountable(path)
    return {
        JOB: "\n".join([*_header(plan, site), *_body(plan, site, folder, mounted), ""]),
        NODE: "\n".join([*_node(plan, site, folder, mounted), ""]),
    }


def _header(plan: Plan, site: SlurmSite) -> Iterator[str]:
    yield "#!/bin/bash"
    yield f"# Run {plan.run}, written by `reprise submit`. To submit it again, type in this folder: sbatch {JOB}"
    options = {
        "job-name": plan.name,
        "nodes": plan.nodes,
        "ntasks-per-node": 1,
        "partition": site.partition,
        "account": site.account,
        "time": site.time,
        "cpus-per-task": site.cpus,
        "mem": site.memory,
        "gpus-per-node": site.gpus or None,
        "signal": f"TERM@{site.grace}" if site.grace else None,
        "output": LOG,
    }
    yield from (f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None)
    yield "#SBATCH --open-mode=append"
    yield "#SBATCH --requeue"
    yield from (line for line in site.lines if line.startswith("#SBATCH"))


def _body(plan: Plan, site: SlurmSite, folder: Path, mounts: Sequence[str]) -> Iterator[str]:
    yield from (line for line in site.lines if not line.startswith("#SBATCH"))
    yield from ("set -u", _assigned("folder", f"{folder}/{SUBMISSION}"), "starts=${SLURM_RESTART_COUNT:-0}")
    if plan.nodes > 1:
        yield from (
            'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            'export REPRISE_MAIN_ADDRESS="$first:$((20000 + (SLURM_JOB_ID + starts) % 10000))"',
        )
    words = ["srun", "--export=ALL", "--kill-on-bad-exit=0", "--wait=0"]
    words += [f"--cpus-per-task={site.cpus}"] if site.cpus else []
    words += _pyxis_options(plan, site, folder, mounts) if site.runtime == "pyxis" else []
    script = shlex.quote(f"{_RUNS}/{plan.run}/{SUBMISSION}/{NODE}") if site.runtime == "pyxis" else f'"$folder/{NODE}"'
    yield _JOB.format(srun=f"{shlex.join(words)} bash {script}", cancelled=CANCELLED)


_JOB: Final = """\
echo "reprise: job $SLURM_JOB_ID, start $((starts + 1)), on $SLURM_JOB_NODELIST" >&2
trap : TERM # the tasks get the signal, too: this shell waits for their end
code=0 waited=0
{srun} &
while kill -0 $! 2>/dev/null; do
    sleep 2
    [ ! -e "$folder/ended-$SLURM_JOB_ID-$starts" ] || waited=$((waited + 2))
    # the other machines would wait ten minutes for a machine 0 that failed before they met
    [ "$waited" != 60 ] || scancel --signal=TERM "$SLURM_JOB_ID"
done
wait $! || code=$?
ended=$(cat "$folder/ended-$SLURM_JOB_ID-$starts" 2>/dev/null) || ended=none
echo "reprise: the tasks ended with exit code $code, that of machine 0 with $ended" >&2
if [ "$ended" = 75 ] && [ ! -e "$folder/{cancelled}$SLURM_JOB_ID" ]; then
    echo "reprise: the run is saved; the job is requeued to resume it" >&2
    trap 'exit 75' TERM # Slurm ends this shell and scontrol
    if scontrol requeue "$SLURM_JOB_ID"; then
        sleep 60
        exit 75
    fi
    echo "reprise: Slurm did not requeue the job; to resume the run, type in its folder submission: sbatch job.sbatch" >&2
fi
[ "$ended" = none ] || code=$ended
exit "$code\""""


def _pyxis_options(plan: Plan, site: SlurmSite, folder: Path, mounts: Iterable[str]) -> list[str]:
    """Return the options of srun by which Pyxis starts the image; the script `node` runs in it."""
    host, _, name = plan.image.partition("/")
    image = site.image if site.image and site.image.startswith("/") else f"{host}#{name}"
    pairs = [(f"{folder}/{COPY}", "/project:ro"), (str(folder.parent), _RUNS), (site.cache, "/cache"), ("/tmp", "/tmp")]  # noqa: S108 - a mount
    mounted = ",".join(f"{source}:{target}" for source, target in [*pairs, *((path, path) for path in mounts)])
    options = [f"--container-image={image}", f"--container-mounts={mounted}", "--container-workdir=/project"]
    return [*options, "--no-container-mount-home", "--no-container-entrypoint", *site.options]


def _node(plan: Plan, site: SlurmSite, folder: Path, mounts: Sequence[str]) -> Iterator[str]:
    is_inside = site.runtime == "pyxis"
    runs = _RUNS if is_inside else str(folder.parent)
    names = [*dict.fromkeys([*plan.variables, *plan.secrets, *site.pass_on])]
    yield "#!/bin/bash"
    yield f"# One machine's part of run {plan.run}: srun starts it once on each machine."
    yield from ("set -u", _assigned("run", plan.run), _assigned("runs", runs))
    yield from (f"export {_assigned(name, value)}" for name, value in plan.variables.items())
    yield _array("words", plan.words)
    yield _array("names", names)
    yield _PREPARE.format(
        archive=ARCHIVE, description=SOURCE_DESCRIPTION, submission=SUBMISSION, prepared=PREPARED_RUN_VARIABLE
    )
    if plan.nodes > 1:
        yield f"export REPRISE_NODES={plan.nodes} REPRISE_NODE=$SLURM_NODEID"
        yield "names+=(REPRISE_NODES REPRISE_NODE REPRISE_MAIN_ADDRESS)"
    yield from _start(plan, site, mounts)


_PREPARE: Final = """\
folder=$runs/$run
stopped=
trap stopped=yes TERM # the container gets the signal, too: this shell waits for its end
scratch=
finish() {{
    local code=$?
    [ -z "$scratch" ] || rm -rf "$scratch"
    [ "$SLURM_NODEID" != 0 ] || echo "$code" >"$folder/{submission}/ended-$SLURM_JOB_ID-${{SLURM_RESTART_COUNT:-0}}"
}}
trap finish EXIT
scratch=$(mktemp -d) || exit 1
if [ "$SLURM_NODEID" = 0 ]; then
    cp "$folder/{submission}/{description}" "$folder/{description}" || exit 1
else # this machine keeps no record: the run's source is placed in a folder of its own
    runs=$scratch/runs
    mkdir -p "$runs/$run" && cp "$folder/{archive}" "$folder/{submission}/{description}" "$runs/$run/" || exit 1
    export {prepared}=$run
    names+=({prepared})
fi
REPRISE_HOST=$(hostname)
export REPRISE_HOST
names+=(REPRISE_HOST)"""


def _start(plan: Plan, site: SlurmSite, mounts: Sequence[str]) -> Iterator[str]:
    """Yield the lines that start the image; the last one ends with its exit code."""
    if site.runtime == "pyxis":
        yield _PYXIS
        return
    yield _assigned("cache", site.cache)
    yield 'mkdir -p "$cache" || exit 1'
    if site.runtime == "apptainer":
        image = site.image if site.image and site.image.startswith("/") else f"docker://{plan.image}"
        # Without privileges a process mounts the file, and Slurm's signal to all processes of the job would end it: it is unpacked instead.
        unpacked = ["--unsquash"] if image.endswith(".sif") or "@" in image else []
        gpus = ["--nv"] if site.gpus else []
        yield _array("options", [*unpacked, *gpus, *(f"--bind={path}" for path in mounts), *site.options])
        yield _APPTAINER.format(image=shlex.quote(image))
        return
    yield _assigned("image", plan.image)
    keep = ["--userns=keep-id"] if site.runtime == "podman" else []
    shared = f"--shm-size={site.shm.lower()}{'m' if site.shm.isdecimal() else ''}"
    yield _array("options", [shared, *keep, *(f"--volume={path}:{path}" for path in mounts), *site.options])
    yield from _gpus(site)
    fields = {"IMAGE": plan.image, "MANIFEST": plan.image.rpartition("@")[2], "NAME": f"{plan.name}-0"}
    fields["CONFIG"] = plan.variables.get("REPRISE_IMAGE_CONFIG", "")
    template = re.sub("|".join(fields), lambda found: fields[found[0]], _INSPECTED)
    yield _ENGINE.format(engine=site.runtime, template=shlex.quote(template), watched=RUN_VARIABLE)


def _gpus(site: SlurmSite) -> Iterator[str]:
    if site.gpus and site.runtime == "docker":
        yield 'options+=(--gpus "\\"device=${SLURM_STEP_GPUS:-$SLURM_JOB_GPUS}\\"")'
    elif site.gpus:
        yield "gpus=${SLURM_STEP_GPUS:-$SLURM_JOB_GPUS}"
        yield 'for each in ${gpus//,/ }; do options+=(--device "nvidia.com/gpu=$each"); done'


_ENGINE: Final = """\
name=reprise-$run-$SLURM_NODEID
{engine} image inspect "$image" >/dev/null 2>&1 || {engine} pull "$image" || exit 1
if [ "$SLURM_NODEID" = 0 ]; then # the engine's word about the image, with which the run can record it as verified
    last=0
    while [ -d "$folder/attempts/$((last + 1))" ]; do last=$((last + 1)); done
    [ ! -e "$folder/image-seen.json" ] || [ "$last" = 0 ] || mv -n "$folder/image-seen.json" "$folder/attempts/$last/"
    {engine} image inspect --format {template} \\
        "$image" >"$folder/image-seen.json.partial" || exit 1
    mv "$folder/image-seen.json.partial" "$folder/image-seen.json"
    export {watched}=$run
    names+=({watched})
fi
{engine} rm --force "$name" >/dev/null 2>&1 # of an earlier start that was killed
[ -z "$stopped" ] || exit 143
{engine} run --rm --name "$name" --network=host --user "$(id -u):$(id -g)" --read-only --cap-drop=ALL \\
    --security-opt=no-new-privileges --tmpfs /tmp:mode=1777,exec --tmpfs /home/reprise:mode=1777 \\
    --volume "$folder/source:/project:ro" --volume "$runs:/project/runs" --volume "$cache:/cache" \\
    "${{options[@]}}" "${{names[@]/#/--env=}}" "$image" "${{words[@]}}\""""

_APPTAINER: Final = """\
for name in "${{names[@]}}" CUDA_VISIBLE_DEVICES; do
    [ -z "${{!name+set}}" ] || export "APPTAINERENV_$name=${{!name}}"
done
mkdir "$scratch/work" || exit 1
[ -z "$stopped" ] || exit 143
apptainer --quiet exec --containall --cleanenv --no-home --workdir "$scratch/work" --pwd /project \\
    --bind "$folder/source:/project:ro" --bind "$runs:/project/runs" --bind "$cache:/cache" \\
    "${{options[@]}}" {image} python -m trainer "${{words[@]}}\""""

_PYXIS: Final = """\
export REPRISE_RUNS=$runs PYTHONPATH=/project PATH=/opt/venv/bin:$PATH # not those of the login machine
[ -z "$stopped" ] || exit 143
(unset "${!SLURM_@}" && python -m trainer "${words[@]}")"""


def _assigned(name: str, value: str) -> str:
    return f"{name}={shlex.quote(value)}"


def _array(name: str, words: Iterable[str]) -> str:
    return f"{name}=({' '.join(map(shlex.quote, words))})"
