"""`reprise submit EXP --to SITE`: freezes the source, writes the run's job, and submits it to the scheduler of a cluster.

With Slurm, the job is in `submission/` in the run's folder, which every machine of the cluster must see at the same path. For Kubernetes,
the command that submits the run is printed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import UsageError
from trainer.base.safe_folder import Root, run_root
from trainer.cli.arguments import Arguments
from trainer.cli.checkout import compose_values
from trainer.cli.configuration import (
    CHECKOUT,
    adopt_dotenv,
    give_to_container_user,
    runs_folder,
    shown_path,
)
from trainer.cli.messages import spelled
from trainer.cli.output import print_json
from trainer.cli.site_jobs import notice_local_image, print_job, removed_on_failure, require_devices, store_of_job
from trainer.cli.submit_manifest import submit_manifest
from trainer.cli.sweep.request import settings_in_environment
from trainer.cli.train.command_line import parse_train_request, report_shared_options, require_captured
from trainer.cli.train.edit_arguments import from_checkout
from trainer.runs.run import SUBMISSION
from trainer.runs.run_id import new_run_id
from trainer.sites import scheduler
from trainer.sites.image import image_variables
from trainer.sites.kubernetes_site import KubernetesSite
from trainer.sites.plan import Plan
from trainer.sites.site import load_site
from trainer.sites.slurm import JOB, job_files
from trainer.sites.submission import Submission, write_submission
from trainer.source.capture import COPY, SOURCE_DESCRIPTION, capture, place_source
from trainer.training.declared_settings import sketched_in

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.cli.train.command_line import TrainRequest
    from trainer.sites.site import Site, SlurmSite
    from trainer.source.capture import SourceBundle

_PLAN: Final = "plan.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRequest:
    """A checked request to submit a run: the site, the plan, the source, and the folders to mount."""

    site: Site
    plan: Plan
    bundle: SourceBundle
    mounts: Sequence[Path]


def main(argv: list[str]) -> int:
    """Run the command."""
    experiment = argv[0] if argv and not argv[0].startswith("-") else None
    args, rest = _parser().parse_known_args(argv if experiment is None else argv[1:])
    if experiment is None:
        raise UsageError("submit needs an experiment", hint="reprise submit digits --to SITE --nodes 2 --devices 2")
    report_shared_options("submit", argv, experiment)
    adopt_dotenv()
    request = _checked(experiment, rest, args)
    if isinstance(request.site, KubernetesSite):
        return submit_manifest(request.plan, request.site, request.bundle, dry_run=args.dry_run, as_json=args.json)
    return submit_job(request, request.site, args)


def submit_job(request: SubmitRequest, site: SlurmSite, args: Namespace) -> int:
    """Write the job into the run's folder and submit it, or print it if `args.dry_run`. Raise `SchedulerError`, `NotWritableError`."""
    if args.dry_run:
        return _describe(request, site, as_json=args.json)
    folder = runs_folder() / request.plan.run
    with removed_on_failure(folder):
        _write(request, site, folder)
        job = scheduler.submit(JOB, folder=folder / SUBMISSION)
    write_submission(folder, Submission(kind=site.kind, site=args.to, job=job, submitted=datetime.now(UTC)))
    _report(folder, job, as_json=args.json)
    return 0


def _parser() -> Arguments:
    parser = Arguments(
        "reprise submit",
        "Freeze the source and submit a run to a Slurm cluster, as a job that begins the run, or resumes it if the job starts again; for "
        "Kubernetes, write the job's manifest, upload the source to the store, and print the command that submits the manifest. EXPERIMENT "
        "is a name in trainer/experiments/, or a Python file. All other options are settings, or --settings FILE, as for `reprise train`. "
        "With Slurm, the folder of runs must be on a file system that all machines of the cluster share, at the same path.",
    )
    parser.usage = (
        "%(prog)s EXPERIMENT --to SITE [--nodes N] [--SETTING VALUE ...]\n                      [--dry-run] [--json]"
    )
    parser.add_argument(
        "--to", metavar="SITE", required=True, help="Slurm or Kubernetes cluster: a name in sites/, without .toml"
    )
    parser.add_argument(
        "--nodes",
        type=int,
        default=1,
        metavar="N",
        help="number of machines, which share --devices equally (default: 1)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the job, let the scheduler test it, and submit nothing"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _checked(experiment: str, rest: Sequence[str], args: Namespace) -> SubmitRequest:
    """Check everything that can be wrong before a job waits in a queue, and capture the source."""
    if args.nodes < 1:
        raise UsageError(f"--nodes is {args.nodes}; expected 1 or more", hint="--nodes 2")
    site = load_site(args.to, root=CHECKOUT)
    train = parse_train_request([f"--exp={experiment}", *rest], command="submit")
    if isinstance(site, KubernetesSite) and train.settings.accelerator == "cpu":
        site = site.model_copy(update={"gpus": 0})  # a pod reserves a GPU for each device, and this run uses no GPU
    run, words = new_run_id(), from_checkout(train)
    return plan_request(
        train,
        site,
        run=run,
        words=["train", "--resume-or-begin", run, *words],
        devices=train.settings.devices,
        nodes=args.nodes,
    )


def plan_request(
    train: TrainRequest, site: Site, *, run: str, words: Sequence[str], devices: int, nodes: int = 1
) -> SubmitRequest:
    """Capture the source of a run, and plan the job of `run`, in which every machine types `words`.

    Raise `SettingError`, `DeviceError`, `ExperimentError`, `SourceError`.
    """
    require_devices(devices, train.settings.accelerator, site, nodes=nodes)
    values = compose_values()
    image = image_variables(site.image, environment=site.environment, dotenv=values, root=CHECKOUT)
    notice_local_image(image["REPRISE_IMAGE"], site)
    store = store_of_job(values)
    known, secrets = settings_in_environment(os.environ, sketched_in(train.experiment.path(CHECKOUT)))
    bundle = capture(CHECKOUT, extra=train.experiment.extra, runs=runs_folder())
    require_captured(train.experiment, bundle)
    plan = Plan(
        run=run,
        image=image["REPRISE_IMAGE"],
        variables={**image, **store.variables, **known},
        secrets=[*store.keys, *secrets],
        words=words,
        nodes=nodes,
        devices=devices,
        source=bundle.digest,
    )
    return SubmitRequest(site=site, plan=plan, bundle=bundle, mounts=store.mounts)


def _describe(request: SubmitRequest, site: SlurmSite, *, as_json: bool) -> int:
    """Print the files of the job, and what Slurm says about it."""
    files = job_files(request.plan, site, folder=runs_folder() / request.plan.run, mounts=request.mounts)
    return print_job(files, {"run": request.plan.run}, as_json=as_json)


def _write(request: SubmitRequest, site: SlurmSite, folder: Path) -> None:
    """Create the run's folder, with its source and its job."""
    files = job_files(request.plan, site, folder=folder, mounts=request.mounts)
    with disk_faults(folder), Root.at(folder.parent, make=True) as runs:
        runs.mkdir(folder.name)
    place_source(request.bundle, folder)
    with disk_faults(folder), run_root(folder) as new:
        new.below(f"{COPY}/runs", make=True).close()  # the mount point of the runs in a container
        new.mkdir(SUBMISSION)
        files |= {_PLAN: request.plan.to_json(), SOURCE_DESCRIPTION: new.read(SOURCE_DESCRIPTION).decode()}
        for name, text in files.items():
            new.write_whole(f"{SUBMISSION}/{name}", text.encode())
    give_to_container_user(folder, checkout=CHECKOUT)


def _report(folder: Path, job: str, *, as_json: bool) -> None:
    run = folder.name
    if as_json:
        document: dict[str, Any] = {"run": run, "job": job, "folder": str(folder)}
        print_json(document, indent=1)
        return
    print(f"run {run}: job {job}; its folder, {shown_path(folder)}, must be on a file system that every machine sees")
    print(spelled(f"reprise logs {run} --follow; reprise runs show {run}; reprise cancel {run}"))
