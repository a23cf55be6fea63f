"""Declarations of sites, `sites/<name>.toml`: a cluster's scheduler, and what each of its machines provides for a run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, PositiveInt, StringConstraints, model_validator

from trainer.base.document import Document, parse_toml, typed
from trainer.base.errors import DocumentError, UsageError
from trainer.base.plain_text import read_text
from trainer.base.suggestions import did_you_mean
from trainer.environments.declaration import NAME, Variable
from trainer.sites.kubernetes_site import KubernetesSite

if TYPE_CHECKING:
    from pathlib import Path

FOLDER: Final = "sites"
_LARGEST: Final = 1 << 20
"""The maximum size of a declaration, in bytes."""

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.,:+-]{0,200}$")]
"""A name in the scheduler, or several names separated by commas."""
Memory = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*[KMGT]?$")]
"""An amount of memory in the scheduler's form, such as `64G`; without a letter, MB."""
Duration = Annotated[str, StringConstraints(pattern=r"^(?:[0-9]{1,4}-)?[0-9]{1,5}(?::[0-9]{1,2}){0,2}$")]
"""A time limit in Slurm's form, such as `8:00:00` or `2-00:00:00`; a number is minutes."""
MountedPath = Annotated[str, StringConstraints(pattern=r"^/[^\x00-\x1f\x7f:,\\]*$", max_length=1000)]
"""An absolute path on each machine; the separators of mounts, `:` and `,`, cannot be part of it."""
Image = Annotated[
    str,
    StringConstraints(
        pattern=r"^(?:/[^\x00-\x1f\x7f:,\\]*|[a-z0-9][a-z0-9./:_-]*@sha256:[0-9a-f]{64})$", max_length=1000
    ),
]
"""An image in a registry by digest, `NAME@sha256:...`, or the absolute path of a file or folder that was created from it."""
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*$", max_length=10_000)]
Option = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=1000)]


class SlurmSite(Document):
    """A cluster with Slurm, whose machines share the folder of runs."""

    kind: Literal["slurm"]
    runtime: Literal["docker", "podman", "apptainer", "pyxis"]
    """The container runtime that starts the image on a machine."""
    cache: MountedPath
    """The folder for the cache of datasets, on each machine or shared by the machines."""
    environment: str | None = Field(default=None, pattern=NAME)
    """The environment whose image the machines use; by default the checkout's environment."""
    image: Image | None = None
    """The image in a registry by digest, or a file or folder created from it: `.sqsh` for Pyxis, `.sif` or a folder for Apptainer."""
    partition: Word | None = None
    account: Word | None = None
    time: Duration | None = None
    cpus: PositiveInt | None = None
    """CPUs of each machine."""
    memory: Memory | None = None
    """Memory of each machine."""
    gpus: int = Field(default=0, ge=0, le=64)
    """GPUs of each machine."""
    grace: int = Field(default=120, ge=0, le=65535)
    """Seconds before the time limit at which the run gets SIGTERM, saves a checkpoint and stops."""
    shm: Memory = "2G"
    """Shared memory of a container, for docker and podman."""
    pass_on: tuple[Variable, ...] = ()
    """Names of the job's variables that are passed to the containers."""
    mounts: tuple[MountedPath, ...] = ()
    """Further files and folders, mounted at their own paths."""
    options: tuple[Option, ...] = ()
    """Further options of the runtime's command."""
    lines: tuple[Line, ...] = ()
    """Lines that are copied into the job: `#SBATCH` lines, or shell commands that run at each start of the job."""

    @model_validator(mode="after")
    def _require_usable_image(self) -> SlurmSite:
        """Require an image in a form that the runtime can start."""
        if self.image is None or not self.image.startswith("/"):
            return self
        if self.runtime in {"docker", "podman"}:
            raise ValueError(f"image {self.image!r} is a path; {self.runtime} needs NAME@sha256:DIGEST")
        if self.runtime == "pyxis" and not self.image.endswith(".sqsh"):
            raise ValueError(f"image {self.image!r}: pyxis starts files whose names end in .sqsh")
        return self


Site = SlurmSite | KubernetesSite
KINDS: Final[dict[str, type[SlurmSite | KubernetesSite]]] = {"slurm": SlurmSite, "kubernetes": KubernetesSite}
"""The class of a declaration by its `kind`."""


def site_names(root: Path) -> list[str]:
    """Return the sites that a checkout declares."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.toml") if re.match(NAME, path.stem))


def load_site(name: str, *, root: Path) -> Site:
    """Read a declaration. Raise `UsageError` if it does not exist, and `DocumentError` if it is invalid."""
    names = site_names(root)
    if name not in names:
        hint = (
            did_you_mean(name, names)
            if names
            else f"write {FOLDER}/{name}.toml: docs/how-to/cluster.md, docs/how-to/kubernetes.md"
        )
        raise UsageError(f"unknown site {name!r}: {root / FOLDER} has no such declaration", hint=hint)
    path = root / FOLDER / f"{name}.toml"
    content: dict[str, Any] = parse_toml(read_text(path, most=_LARGEST), where=str(path))
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        found = "is missing" if kind is None else f"is {kind!r}"
        raise DocumentError(f"{path}: key 'kind' {found}; expected {' or '.join(KINDS)}", hint='kind = "slurm"')
    return typed(content, KINDS[kind], where=str(path))
