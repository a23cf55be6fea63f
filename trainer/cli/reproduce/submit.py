"""`reprise reproduce RUN --to SITE`: submits a job that runs `reprise reproduce RUN` in a container of the recorded image.

The job's files are in the rerun's folder. The job runs this checkout's source, which starts the rerun with the recorded source and compares
the results.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import ImageMismatchError, ImageMissingError, UntrustedCodeError, UsageError
from trainer.base.safe_folder import Root, run_root
from trainer.cli.checkout import compose_values
from trainer.cli.configuration import CHECKOUT, give_to_container_user, runs_folder, shown_path
from trainer.cli.find_run import RunOnDisk, find_run
from trainer.cli.messages import spelled
from trainer.cli.output import print_json
from trainer.cli.reproduce.existing import OPTION
from trainer.cli.runner import recorded_identity
from trainer.cli.site_jobs import (
    notice_local_image,
    print_job,
    removed_on_failure,
    require_devices,
    slurm_site,
    store_of_job,
)
from trainer.cli.trust import TrustDecision, grants, require_trust
from trainer.comparison.examine_run import require_outcome
from trainer.comparison.rerun import image_name, rerun_arguments
from trainer.runs.run import SUBMISSION
from trainer.runs.run_id import new_run_id
from trainer.sites import scheduler
from trainer.sites.plan import Plan
from trainer.sites.slurm import JOB, job_files
from trainer.sites.submission import Submission, write_submission
from trainer.source.capture import ARCHIVE, COPY, capture, place_source
from trainer.source.copy import load_bundle

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.runs.record import Record
    from trainer.sites.site import SlurmSite
    from trainer.source.capture import SourceBundle

_PLAN: Final = "plan.json"
_HINT: Final = "reproduce on a machine with Docker: reprise reproduce RUN; docs/how-to/kubernetes.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class _RerunJob:
    """A checked request to submit a rerun: the site, the plan, the source, and the folders to mount."""

    site: SlurmSite
    plan: Plan
    bundle: SourceBundle
    """This checkout's source, which the job runs."""
    mounts: Sequence[Path]

    def files(self, folder: Path) -> dict[str, str]:
        """Return the text of each of the job's files, by name; `folder` is the rerun's folder."""
        return job_files(self.plan, self.site, folder=folder, mounts=self.mounts)


def submit(args: Namespace) -> int:
    """Check everything that can be wrong before a job waits in a queue, and submit it."""
    site = slurm_site(args.to, command="reproduce", hint=_HINT)
    original = find_run(args.run)
    job = _checked(original, site, args)
    folder = runs_folder() / job.plan.run
    if args.dry_run:
        return print_job(job.files(folder), {"run": job.plan.run, "original": original.record.run}, as_json=args.json)
    with removed_on_failure(folder):
        _write(job, folder)
        number = scheduler.submit(JOB, folder=folder / SUBMISSION)
    write_submission(folder, Submission(kind=site.kind, site=args.to, job=number, submitted=datetime.now(UTC)))
    _report(folder, original.record.run, number, as_json=args.json)
    return 0


def _checked(original: RunOnDisk, site: SlurmSite, args: Namespace) -> _RerunJob:
    record = original.record
    if original.folder.parent != runs_folder():
        message = f"run {record.run} is in {original.folder.parent}; the job finds runs in {runs_folder()}"
        command = (
            f"REPRISE_RUNS={shlex.quote(str(original.folder.parent))} reprise reproduce {record.run} --to {args.to}"
        )
        raise UsageError(message, hint=command)
    require_outcome(record)
    image = _image_variables(record, site)
    settings = rerun_arguments(record).settings
    devices = settings.get("devices")
    require_devices(devices if isinstance(devices, int) else 1, str(settings["accelerator"]), site)
    load_bundle(original.folder / ARCHIVE, digest=record.ingredients.source)
    trust = _trust_words(original, args)
    notice_local_image(image["REPRISE_IMAGE"], site)
    store, bundle, run = store_of_job(compose_values()), capture(CHECKOUT, runs=runs_folder()), new_run_id()
    flags = [f"--{name}" for name in ("deep", "allow-drift") if getattr(args, name.replace("-", "_"))]
    plan = Plan(
        run=run,
        image=image["REPRISE_IMAGE"],
        variables={**image, **store.variables},
        secrets=store.keys,
        words=["reproduce", record.run, f"--{OPTION}", run, *flags, *trust],
        nodes=1,
        devices=devices if isinstance(devices, int) else 1,
        source=bundle.digest,
    )
    return _RerunJob(site=site, plan=plan, bundle=bundle, mounts=store.mounts)


def _trust_words(original: RunOnDisk, args: Namespace) -> list[str]:
    """Ask for trust now, since a job has no terminal; return the options that pass the decision to the job.

    Raise `UntrustedCodeError` without consent, or if the code is not granted the machine.
    """
    granted = grants(args.grant)
    word = TrustDecision(
        trusted=args.trust, granted=granted, command=f"reprise reproduce {original.record.run} --to {args.to}"
    )
    try:
        if require_trust(original.record, original.folder, word, is_isolated=False):
            return []
    except UntrustedCodeError as fault:
        if "machine" in granted:
            raise
        message = f"run {original.record.run} is from another user or machine, and its code would run in the job as a process of this user"
        hint = "reproduce it in an isolated container, without --to; or grant that access: --trust --grant machine"
        raise UntrustedCodeError(message, hint=hint) from fault
    return ["--trust", f"--grant={','.join(sorted(granted))}"]


def _image_variables(record: Record, site: SlurmSite) -> dict[str, str]:
    """Return the variables that name the recorded image.

    Raise `IrreproducibleError` if the record names no image, `ImageMissingError` if it names no repository and the site no image,
    `ImageMismatchError` if the site's image is another image.
    """
    name, variables = image_name(record), recorded_identity(record)
    if site.image is not None and site.image.startswith("/"):
        # the job compares the file's build ID with the recorded build ID
        return {**variables, "REPRISE_IMAGE": str(name)}
    if site.image is not None:
        if site.image.rpartition("@")[2] != name.manifest:
            message = f"run {record.run} ran in {name}; the site's image is {site.image}"
            hint = f"remove `image` from the site, or set it to NAME@{name.manifest or 'DIGEST'}"
            raise ImageMismatchError(message, hint=hint)
        return {**variables, "REPRISE_IMAGE": site.image}
    if name.reference is None:
        message = f"the record of run {record.run} names no repository from which a machine could start its image"
        raise ImageMissingError(message, hint=f"add to the site: image = NAME@{name.manifest or 'DIGEST'}")
    return {**variables, "REPRISE_IMAGE": name.reference}


def _write(job: _RerunJob, folder: Path) -> None:
    """Create the folder of the rerun, with the job's files and source."""
    files = {**job.files(folder), _PLAN: job.plan.to_json()}
    with disk_faults(folder), Root.at(folder.parent, make=True) as runs:
        runs.mkdir(folder.name)
        with runs.below(folder.name) as new:
            new.mkdir(SUBMISSION)
    place_source(job.bundle, folder / SUBMISSION)
    with disk_faults(folder), run_root(folder) as new, new.below(SUBMISSION) as submission:
        submission.below(f"{COPY}/runs", make=True).close()  # the mount point of the runs in a container
        for name, text in files.items():
            submission.write_whole(name, text.encode())
    give_to_container_user(folder, checkout=CHECKOUT)


def _report(folder: Path, original: str, job: str, *, as_json: bool) -> None:
    run = folder.name
    if as_json:
        print_json({"run": run, "original": original, "job": job, "folder": str(folder)}, indent=1)
        return
    print(
        f"run {run}, a rerun of {original}: job {job}; its folder, {shown_path(folder)}, must be on a file system that every machine sees"
    )
    print(
        spelled(
            f"the job's output ends with the verdict: reprise logs {run} --follow; then reprise runs show {original}"
        )
    )
