"""The rules for a plan that runs on Kubernetes: nodes can pull the image and reach the store, and words and variables pass unchanged."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from trainer.base.digest import is_digest
from trainer.base.errors import SettingError, UsageError
from trainer.base.suggestions import listed, short
from trainer.runs.run_id import is_run_id
from trainer.runs.submitted_source import SOURCE_VARIABLE
from trainer.stores.address import folder_of, split_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.sites.kubernetes_site import KubernetesSite
    from trainer.sites.plan import Plan

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IMAGE: Final = re.compile(r"[a-z0-9][A-Za-z0-9._:/-]{0,254}@sha256:[0-9a-f]{64}")
_MOST_BYTES: Final = 128 << 10
"""The maximum size of words and variables in bytes: `kubectl apply` copies the manifest to an annotation, of at most 256 KiB."""
_MOST_NODES: Final = 1000


def require_valid(plan: Plan, site: KubernetesSite) -> None:
    """Raise `UsageError` or `SettingError` if the site cannot run the plan, or Kubernetes would reject or change its words or variables."""
    for fault in (*_plan_faults(plan, site), *_text_faults(plan), *_store_faults(plan, site)):
        raise fault
    if plan.devices < 1 or plan.devices % plan.nodes:
        message = f"setting devices is {plan.devices}, which {plan.nodes} nodes cannot share equally"
        raise SettingError(message, hint=f"--devices {plan.nodes}, or a multiple: the devices of all nodes")
    if site.gpus and plan.devices > plan.nodes * site.gpus:
        message = (
            f"setting devices is {plan.devices}; {plan.nodes} nodes of this site have {plan.nodes * site.gpus} GPUs"
        )
        raise SettingError(message, hint=f"--devices {plan.nodes * site.gpus}, or more --nodes")


def _plan_faults(plan: Plan, site: KubernetesSite) -> Iterator[UsageError]:
    if not is_run_id(plan.run):
        yield UsageError(f"run is {short(plan.run)!r}; expected the ID of a run", hint="submit the experiment again")
    if not _IMAGE.fullmatch(plan.image):
        message = f"image is {short(plan.image)!r}; expected REGISTRY/NAME@sha256:..., which nodes can pull and no tag can move"
        yield UsageError(message, hint="reprise image pin ENVIRONMENT --to REGISTRY/NAME")
    elif plan.image.startswith("localhost/"):
        message = f"image {short(plan.image)} is on this machine only, so nodes cannot pull it"
        yield UsageError(message, hint="reprise image pin ENVIRONMENT --to REGISTRY/NAME")
    if not 1 <= plan.nodes <= _MOST_NODES:
        yield UsageError(f"nodes is {plan.nodes}; expected 1 to {_MOST_NODES}", hint="--nodes 2")
    if plan.secrets and site.secret is None:
        message = f"the run needs the values of {listed(plan.secrets)}, but the site names no secret"
        create = f"kubectl -n {site.namespace} create secret generic reprise --from-env-file FILE"
        yield UsageError(message, hint=f'{create}; then add to the site: secret = "reprise"')


def _text_faults(plan: Plan) -> Iterator[UsageError]:
    """Yield errors about words and variables."""
    for name in plan.variables:
        if not _VARIABLE.fullmatch(name):
            yield UsageError(f"variable {short(name)!r}: expected letters, digits and _", hint="rename it")
        if name in plan.secrets:
            message = f"variable {name} is a secret, but its value would be written into the manifest"
            yield UsageError(message, hint="add it to the site's secret")
    texts = [*plan.words, *plan.variables.values()]
    if not all(map(_can_be_passed, texts)):
        message = "a word or a variable has a zero byte, or is not valid UTF-8"
        yield UsageError(message, hint="correct the command line")
    elif (size := sum(len(text.encode()) for text in texts)) > _MOST_BYTES:
        message = f"words and variables have {size:,} bytes; expected at most {_MOST_BYTES:,}"
        yield UsageError(message, hint="write the settings into a file of the checkout: --settings FILE")


def _can_be_passed(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _store_faults(plan: Plan, site: KubernetesSite) -> Iterator[UsageError]:
    """Yield errors about the store, from which each pod fetches the source and the datasets."""
    address = plan.variables.get("REPRISE_STORE", "")
    if not address:
        message = "no store is configured, and pods share no folder with this machine"
        yield UsageError(message, hint="scripts/setup --store s3://BUCKET/PREFIX")
        return
    if not is_digest(plan.variables.get(SOURCE_VARIABLE, "")):
        message = f"{SOURCE_VARIABLE} is not the digest of a submitted source"
        yield UsageError(message, hint="submit the experiment again")
    folder = folder_of(address)
    if folder is None and (access := split_address(address)[1]) and access.profile:
        message = f"store {address} uses the profile {access.profile} of ~/.aws, which pods do not have"
        yield UsageError(
            message, hint="name the endpoint: s3://BUCKET?endpoint=URL, and put the key into the site's secret"
        )
    if folder is not None and not any(f"{folder}/".startswith(f"{path}/") for path in site.volumes):
        message = f"store folder {folder} is in none of the site's volumes, so pods cannot read it"
        hint = f'add [volumes."{folder}"] with claim or nfs to the site, or use a store in a bucket'
        yield UsageError(message, hint=hint)
