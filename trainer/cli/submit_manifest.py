"""The part of `reprise submit` for Kubernetes: writes the run's manifest, and uploads its source for the pods to fetch."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from trainer.base.atomic_file import disk_faults
from trainer.base.errors import UnsafePathError, UsageError
from trainer.base.redaction import is_secret_name
from trainer.base.safe_folder import Root, run_root
from trainer.cli.configuration import configured_store, runs_folder, shown_path
from trainer.cli.output import print_json, print_notice
from trainer.runs.run import SUBMISSION
from trainer.runs.submitted_source import SOURCE_VARIABLE, source_objects, upload_source
from trainer.sites import kubectl
from trainer.sites.kubernetes import manifest_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trainer.sites.kubernetes_site import KubernetesSite
    from trainer.sites.plan import Plan
    from trainer.source.capture import SourceBundle

MANIFEST: Final = "job.yaml"
_PLAN: Final = "plan.json"


def submit_manifest(plan: Plan, site: KubernetesSite, bundle: SourceBundle, *, dry_run: bool, as_json: bool) -> int:
    """Write the manifest of a run, and print the command that submits it. With `dry_run`, print the manifest and validate it with kubectl.

    Raise `UsageError` or `SettingError` for a run that the site's pods cannot have, `StoreError` if the upload fails, `SchedulerError` if
    kubectl fails.
    """
    plan = plan_of_pods(plan, site, bundle, environ=os.environ)
    text = manifest_text(plan, site)
    if dry_run:
        return _describe(plan, text, as_json=as_json)
    upload_source(bundle, configured_store(plan.variables["REPRISE_STORE"]))
    folder = runs_folder() / plan.run
    try:
        path = _write(folder, {MANIFEST: text, _PLAN: plan.to_json()}) / MANIFEST
    except BaseException:  # a run whose manifest was not written leaves no files
        with suppress(OSError, UnsafePathError), Root.at(folder.parent) as runs:
            runs.remove_tree(folder.name)
        raise
    command = f"kubectl apply --filename {shlex.quote(shown_path(path))}"
    if as_json:
        print_json({"run": plan.run, "manifest": str(path), "command": command}, indent=1)
        return 0
    print(f"run {plan.run}: the manifest is written, and the source is in the store; to submit the run:")
    print(command)
    return 0


def plan_of_pods(plan: Plan, site: KubernetesSite, bundle: SourceBundle, *, environ: Mapping[str, str]) -> Plan:
    """Return the plan with additions for pods: the digest of the source in the store, variables of `pass_on`, trust in earlier pods.

    Raise `UsageError` for a variable of the site's `pass_on` that looks like a secret.
    """
    if secret := next((name for name in site.pass_on if is_secret_name(name)), None):
        message = f"variable {secret} of the site's pass_on looks like a secret, but its value would be in the manifest"
        raise UsageError(
            message,
            hint=f"remove it from pass_on, and add it to the Secret that the site names: secret = {site.secret or 'NAME'!r}",
        )
    passed = {name: environ[name] for name in site.pass_on if name in environ}
    digest, _ = source_objects(bundle)
    return replace(
        plan, variables={**plan.variables, **passed, SOURCE_VARIABLE: digest}, words=[*plan.words, "--trust"]
    )


def _describe(plan: Plan, text: str, *, as_json: bool) -> int:
    """Print the manifest and the result of kubectl's server-side dry run."""
    said = kubectl.test(text) if kubectl.has_kubectl() else None
    if as_json:
        print_json({"run": plan.run, "files": {MANIFEST: text}, "kubectl": said}, indent=1)
    else:
        print(text, end="")
    print_notice(said or "kubectl is not installed on this machine: the manifest was not validated on the cluster")
    print_notice("dry run: nothing was uploaded or submitted")
    return 0


def _write(folder: Path, files: Mapping[str, str]) -> Path:
    """Create the run's folder with the files of its submission, and return their folder."""
    with disk_faults(folder), Root.at(folder.parent, make=True) as runs:
        runs.mkdir(folder.name)
    with disk_faults(folder), run_root(folder) as new:
        new.mkdir(SUBMISSION)
        for name, text in files.items():
            new.write_whole(f"{SUBMISSION}/{name}", text.encode())
    return folder / SUBMISSION
