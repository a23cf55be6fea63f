"""`reprise sweep EXP ... --to SITE`: submit the unfinished points of a sweep to a cluster, as an array job.

Each task trains one point with `train --resume-or-begin RUN`, so that a task that starts again resumes its run. The sweep's folder, which
every machine sees at the same path, holds the frozen source, the output of each point, and in `submissions/<n>/` the files of each job.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.digest import canonical
from trainer.base.errors import ImageMismatchError, RunError
from trainer.base.safe_folder import Root, run_root
from trainer.base.suggestions import counted
from trainer.cli.checkout import compose_values
from trainer.cli.configuration import CHECKOUT, give_to_container_user, runs_folder, shown_path
from trainer.cli.messages import spelled
from trainer.cli.output import print_json, print_notice
from trainer.cli.site_jobs import (
    JobStore,
    notice_local_image,
    print_job,
    removed_on_failure,
    require_devices,
    slurm_site,
    store_of_job,
)
from trainer.cli.sweep.create import SiteMachines, find_or_create
from trainer.cli.sweep.jobs import jobs_of, load_sweep, runs_here, submissions
from trainer.cli.sweep.launchers import origins_of_point
from trainer.cli.sweep.request import parse_request
from trainer.cli.trust import require_own_sweep
from trainer.runs.run import SUBMISSION
from trainer.runs.run_id import new_run_id
from trainer.settings.determinism import Level
from trainer.settings.fields import LaunchSettings
from trainer.settings.origins import resolve
from trainer.sites import scheduler
from trainer.sites.image import image_variables
from trainer.sites.plan import Plan, PlannedPoint
from trainer.sites.slurm import JOB, SUBMISSIONS, job_files
from trainer.sites.slurm_node import RUNS
from trainer.sites.submission import Submission, write_submission
from trainer.source.capture import SOURCE_DESCRIPTION
from trainer.sweeps.document import FOLDER, Sweep
from trainer.sweeps.folder import PointState, load, lock_sweep, point_states, save, sweep_root

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.sites.site import SlurmSite
    from trainer.sweeps.document import Point

_PLAN: Final = "plan.json"
_HINT: Final = "submit each point as a run: reprise submit EXPERIMENT --to SITE --SETTING VALUE"


@dataclass(frozen=True, slots=True, kw_only=True)
class _SweepTarget:
    """The site to which points are submitted, and the image, store and devices of their job."""

    name: str
    site: SlurmSite
    image: dict[str, str]
    store: JobStore
    devices: int
    parallel: int | None

    def plan(self, sweep: Sweep, numbers: Sequence[int]) -> Plan:
        """Return the job plan for the points `numbers`, counted from 0. Each point must have a run."""
        points = [
            PlannedPoint(number=number + 1, run=sweep.points[number].run or "", words=sweep.points[number].words())
            for number in numbers
        ]
        folder = f"{RUNS}/{FOLDER}/{sweep.id}"
        files = [f"--settings={folder}/{path}" for path in sweep.asked.settings_files]
        return Plan(
            run=sweep.id,
            image=self.image["REPRISE_IMAGE"],
            variables={**self.image, **self.store.variables, **sweep.asked.environment},
            secrets=[*self.store.keys, *sweep.asked.secrets],
            words=["train", f"--exp={sweep.asked.experiment}", *files, *sweep.asked.words],
            nodes=1,
            devices=self.devices,
            source=sweep.source,
            points=points,
            parallel=self.parallel,
        )


def submit(args: Namespace, experiment: str | None, rest: Sequence[str]) -> Sweep | None:
    """Submit the unfinished points that no job has, print the job, and return `None`; return the sweep if all points are finished.

    With `--dry-run`, only print the job. Raise `UsageError` and `SettingError` for an invalid request, `DeviceError` for devices that the
    site lacks, `ImageMismatchError` for a sweep in another image, `RunError` if points train on this machine, and `SchedulerError`
    if the scheduler does not accept the job or does not respond.
    """
    site = slurm_site(args.to, command="sweep", hint=_HINT)
    values = compose_values()
    image = image_variables(site.image, environment=site.environment, dotenv=values, root=CHECKOUT)
    sweep, launches = _sweep(args, experiment, rest, site, image)
    folder = runs_folder() / FOLDER / sweep.id
    notice_local_image(image["REPRISE_IMAGE"], site)
    target = _SweepTarget(
        name=args.to,
        site=site,
        image=image,
        store=store_of_job(values),
        devices=launches[0].devices,
        parallel=args.jobs,
    )
    if args.dry_run and not folder.is_dir():
        _describe(sweep, range(len(sweep.points)), target, as_json=args.json)
        return None
    require_own_sweep(sweep, folder)
    with lock_sweep(folder):
        sweep = load(folder)
        states = point_states(sweep, runs=runs_folder())
        numbers = _unsubmitted(sweep, states)
        if all(state is PointState.FINISHED for state in states):
            return sweep
        if not numbers:
            _report(sweep, [], None, folder, as_json=args.json)
        elif args.dry_run:
            _describe(sweep, numbers, target, as_json=args.json)
        else:
            _submit(sweep, numbers, target, as_json=args.json)
    return None


def _sweep(
    args: Namespace, experiment: str | None, rest: Sequence[str], site: SlurmSite, image: dict[str, str]
) -> tuple[Sweep, Sequence[LaunchSettings]]:
    """Return the sweep to continue, or else the sweep of the request, and the settings of its points that select devices."""
    if not args.go_on:
        parsed = parse_request(experiment, rest, points=args.points)
        if not parsed.is_checked:
            print_notice(
                "the text of the experiment does not determine all settings: each point checks its settings when it starts"
            )
        _require_devices(parsed.launches, site)
        machines = SiteMachines(image=image, accelerator=_accelerator(parsed.launches, site))
        return find_or_create(parsed, again=args.again, machines=machines, dry_run=args.dry_run), parsed.launches
    sweep = load_sweep(args.go_on)
    if not SiteMachines(image=image, accelerator="cpu").is_image_of(sweep):
        frozen = sweep.image.get("REPRISE_IMAGE", "no container")
        message = f"sweep {sweep.id} was frozen with {frozen}; the site starts {image['REPRISE_IMAGE']}"
        raise ImageMismatchError(
            message, hint="start a new sweep in the site's image: repeat the sweep's command with --again --to SITE"
        )
    launches = [_settings(sweep, point) for point in sweep.points]
    _require_devices(launches, site)
    return sweep, launches


def _settings(sweep: Sweep, point: Point) -> LaunchSettings:
    folder = runs_folder() / FOLDER / sweep.id
    return resolve(LaunchSettings, origins_of_point(sweep, point, folder), ignore_unknown=True).settings


def _require_devices(launches: Sequence[LaunchSettings], site: SlurmSite) -> None:
    for each in launches:
        require_devices(each.devices, each.accelerator, site)


def _accelerator(launches: Sequence[LaunchSettings], site: SlurmSite) -> str:
    """Return the accelerator of all points at the site, `cuda` or `cpu`, as in a record."""
    is_cpu = all(each.accelerator == "cpu" or each.determinism is Level.PORTABLE for each in launches)
    return "cuda" if site.gpus and not is_cpu else "cpu"


def _unsubmitted(sweep: Sweep, states: Sequence[PointState]) -> list[int]:
    """Return the unfinished points that have no job.

    Raise `RunError` if points train on this machine, `SchedulerError` if the scheduler does not respond.
    """
    unfinished = [number for number, state in enumerate(states) if state is not PointState.FINISHED]
    notes = submissions(sweep, unfinished)
    jobs = jobs_of(notes)
    for number, job in jobs.items():
        print_notice(f"point {number + 1}, {sweep.points[number]}: job {notes[number].job} is {job.described}")
    running = [number for number in unfinished if states[number] is PointState.RUNNING]
    here = [number for number in running if number not in notes or runs_here(sweep, number)]
    if here:
        message = f"{counted(len(here), 'point')} of sweep {sweep.id} still train on this machine"
        raise RunError(message, hint="wait until they end, or stop them; then type the command again")
    return [number for number in unfinished if number not in jobs]


def _describe(sweep: Sweep, numbers: Sequence[int], target: _SweepTarget, *, as_json: bool) -> None:
    sweep = _with_runs(sweep, numbers)
    files = job_files(
        target.plan(sweep, numbers), target.site, folder=runs_folder() / FOLDER / sweep.id, mounts=target.store.mounts
    )
    print_job(files, {"sweep": sweep.id, "points": [number + 1 for number in numbers]}, as_json=as_json)


def _with_runs(sweep: Sweep, numbers: Sequence[int]) -> Sweep:
    """Return the sweep with a run for each of the points `numbers`: the point's own run, which is resumed, or a new run."""
    for number in numbers:
        if (point := sweep.points[number]).run is None:
            sweep = sweep.with_point(number, point.model_copy(update={"runs": [new_run_id()]}))
    return sweep


def _submit(sweep: Sweep, numbers: Sequence[int], target: _SweepTarget, *, as_json: bool) -> None:
    sweep, folder = _with_runs(sweep, numbers), runs_folder() / FOLDER / sweep.id
    for number in numbers:
        sweep = sweep.with_point(number, sweep.points[number].model_copy(update={"code": None}))
    save(sweep, folder)
    number = _next_submission(folder)
    place = folder / SUBMISSIONS / str(number)
    with ExitStack() as stack:
        for each in numbers:
            _prepare_run(sweep.points[each].run or "", stack)
        stack.enter_context(removed_on_failure(place))
        _write(sweep, target.plan(sweep, numbers), target, folder, number)
        job = scheduler.submit(JOB, folder=place)
    for each in numbers:
        note = Submission(
            kind=target.site.kind,
            site=target.name,
            job=f"{job}_{each + 1}",
            submitted=datetime.now(UTC),
            sweep=sweep.id,
        )
        write_submission(runs_folder() / (sweep.points[each].run or ""), note)
    _report(sweep, numbers, job, folder, as_json=as_json)


def _prepare_run(name: str, stack: ExitStack) -> None:
    """Create the folder of a run, in which a task writes its exit code. A new folder is removed if the block of `stack` fails."""
    folder = runs_folder() / name
    if folder.is_dir():
        with disk_faults(folder), run_root(folder) as run:
            run.below(SUBMISSION, make=True).close()
            run.give(SUBMISSION)
        return
    stack.enter_context(removed_on_failure(folder))
    with disk_faults(folder), Root.at(runs_folder()) as runs, runs.below(name, make=True) as run:
        run.mkdir(SUBMISSION)
    give_to_container_user(folder, checkout=CHECKOUT)


def _next_submission(folder: Path) -> int:
    with sweep_root(folder) as sweep, sweep.below(SUBMISSIONS, make=True) as submitted:
        return 1 + max((int(name) for name in submitted.names() if name.isdecimal()), default=0)


def _write(sweep: Sweep, plan: Plan, target: _SweepTarget, folder: Path, number: int) -> None:
    """Write the files of a job to the sweep's folder."""
    files = job_files(plan, target.site, folder=folder, number=number, mounts=target.store.mounts)
    files |= {_PLAN: plan.to_json(), SOURCE_DESCRIPTION: canonical(sweep.captured.model_dump(mode="json")).decode()}
    with disk_faults(folder), run_root(folder.parent) as sweeps:
        place = f"{sweep.id}/{SUBMISSIONS}/{number}"
        sweeps.mkdir(place)
        for name, text in files.items():
            sweeps.write_whole(f"{place}/{name}", text.encode())
    give_to_container_user(folder, checkout=CHECKOUT)


def _report(sweep: Sweep, numbers: Sequence[int], job: str | None, folder: Path, *, as_json: bool) -> None:
    """Print the points that were submitted as a job; without a job, print that nothing is left to submit."""
    runs = {number + 1: sweep.points[number].run or "" for number in numbers}
    if as_json:
        print_json({"sweep": sweep.id, "job": job, "folder": str(folder), "runs": runs}, indent=1)
        return
    if job is None:
        print(spelled(f"sweep {sweep.id}: nothing is left to submit; reprise sweep --show {sweep.id}"))
        return
    for number, run in runs.items():
        print(f"point {number}, {sweep.points[number - 1]}: run {run}")
    about = f"{counted(len(runs), 'point')} as job {job}; its folder, {shown_path(folder)}"
    print(f"sweep {sweep.id}: {about}, must be on a file system that every machine sees")
    shown = next(iter(runs.values()))
    print(
        spelled(
            f"reprise sweep --show {sweep.id}; reprise logs {shown} --follow; reprise cancel {shown}; scancel {job}"
        )
    )
