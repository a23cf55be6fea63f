"""Functions for the commands with `--to SITE`: read the site, check its devices, configure a job's store, and print a job in a dry run."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Final

from trainer.base.errors import DeviceError, UnsafePathError, UsageError
from trainer.base.safe_folder import Root
from trainer.base.suggestions import counted
from trainer.cli.configuration import CHECKOUT, store_address
from trainer.cli.nodes import NodePlace
from trainer.cli.output import print_json, print_notice
from trainer.runs.image_file import IMAGE_FILE
from trainer.sites import scheduler
from trainer.sites.site import SlurmSite, load_site
from trainer.sites.slurm import JOB
from trainer.stores.address import LOCAL_ENDPOINT, folder_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trainer.sites.site import Site

_KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_ADDRESSES: Final = ("AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStore:
    """The variables and mounts that give a job's containers access to the store; empty without a store."""

    variables: dict[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    """Names of variables whose values are secrets."""
    mounts: tuple[Path, ...] = ()


def slurm_site(name: str, *, command: str, hint: str) -> SlurmSite:
    """Read a site that `command` submits to.

    Raise `UsageError` in a container, and for a site that is unknown or does not use Slurm; `DocumentError` for an invalid declaration.
    """
    if IMAGE_FILE.exists():
        message = (
            f"`reprise {command} --to {name}` runs on a login machine of the cluster: a container has no scheduler"
        )
        raise UsageError(message, hint=f"type there: scripts/reprise {command} ... --to {name}")
    site = load_site(name, root=CHECKOUT)
    if not isinstance(site, SlurmSite):
        message = f"`reprise {command} --to` submits to Slurm; site {name} has the kind {site.kind}"
        raise UsageError(message, hint=hint)
    return site


def require_devices(devices: int, accelerator: str, site: Site, *, nodes: int = 1) -> None:
    """Raise `SettingError` if the machines cannot share the devices equally, `DeviceError` if the site's machines have too few GPUs."""
    here = NodePlace(node=0, nodes=nodes, host="", port=0).devices_here(devices)
    if (accelerator == "gpu" and not site.gpus) or (accelerator != "cpu" and site.gpus and here > site.gpus):
        message = f"this run needs {counted(here, 'GPU')} on each machine; the site's machines have {site.gpus}"
        raise DeviceError(
            message,
            hint="--devices counts the devices of all machines; `gpus` of the site counts the GPUs of each machine",
        )


def notice_local_image(image: str, site: Site) -> None:
    """Print a notice if no machine can pull the image."""
    if image.startswith("localhost/") and not (site.image or "").startswith("/"):
        print_notice(f"the image is in no registry: every machine must have {image}")


def store_of_job(values: Mapping[str, str]) -> JobStore:
    """Return the store of a job; `values` are the values of `.env`. Print a notice if the job has no store."""
    address = store_address()
    if address is None:
        print_notice("no store is configured: datasets must be in the cache of every machine")
        return JobStore()
    if (folder := folder_of(address)) is not None:
        return JobStore(variables={"REPRISE_STORE": str(folder)}, mounts=(folder,))
    if values.get("REPRISE_STORE_ENDPOINT") == LOCAL_ENDPOINT and address == values.get("REPRISE_STORE"):
        print_notice(
            "the store of this checkout runs on this machine only: the job has no store, and datasets must be in the cache of every "
            "machine (scripts/setup --store ADDRESS selects another store)"
        )
        return JobStore()
    found = {name: os.environ.get(name) or values.get(name) for name in _ADDRESSES}
    return JobStore(
        variables={"REPRISE_STORE": address, **{name: text for name, text in found.items() if text}}, keys=_KEYS
    )


def print_job(files: Mapping[str, str], about: Mapping[str, object], *, as_json: bool) -> int:
    """Print the files of a job that is not submitted, and the result of Slurm's test; the JSON document begins with `about`."""
    said = scheduler.test(files[JOB], folder=Path(gettempdir())) if scheduler.has_slurm() else None
    if as_json:
        print_json({**about, "files": dict(files), "slurm": said}, indent=1)
    else:
        print("\n".join(f"# {name}\n{text}" for name, text in files.items()))
    print_notice(said or "sbatch is not installed on this machine: Slurm did not test the job")
    print_notice("dry run: nothing was submitted")
    return 0


@contextmanager
def removed_on_failure(folder: Path) -> Iterator[None]:
    """Remove a new folder if the block fails, so that a job that was not submitted leaves no files."""
    try:
        yield
    except BaseException:
        with suppress(OSError, UnsafePathError), Root.at(folder.parent) as parent:
            parent.remove_tree(folder.name)
        raise
