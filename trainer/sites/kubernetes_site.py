"""The declaration of a Kubernetes cluster as a site, in Kubernetes' terms.

The validators check quantities, names and labels, which Kubernetes' schemas do not check, and reject keys of a pod that Reprise writes.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from trainer.base.document import Document
from trainer.base.suggestions import short
from trainer.environments.declaration import NAME

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_SUBDOMAIN: Final = rf"{_LABEL}(?:\.{_LABEL})*"
_LONGEST_SUBDOMAIN: Final = 253
_WORD: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._-]+)+")
_QUANTITY: Final = re.compile(r"([0-9]+)(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?")
_UNITS: Final = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
}  # fmt: skip
_LEAST_MEMORY: Final = 2**20
_MOST_MEMORY: Final = 2**60
_MOST_ANNOTATIONS: Final = 32 << 10
"""The maximum size of annotations in bytes. They are in the manifest twice; Kubernetes allows 256 KiB with `kubectl apply`'s copy of it."""
RESERVED_PATHS: Final = (
    "/bin", "/dev", "/etc", "/home/reprise", "/lib", "/lib64", "/opt", "/proc", "/project", "/sbin", "/sys", "/usr",
)  # fmt: skip
"""Folders of the container at or below which no volume can be mounted. A volume can be mounted below /tmp, but not at /tmp."""
OWN_POD_KEYS: Final = frozenset(
    {
        "automountServiceAccountToken", "containers", "enableServiceLinks", "hostname", "imagePullSecrets", "initContainers",
        "nodeSelector", "restartPolicy", "securityContext", "serviceAccount", "setHostnameAsFQDN", "subdomain",
        "terminationGracePeriodSeconds", "tolerations", "volumes",
    }
)  # fmt: skip
"""Keys of a pod's spec that Reprise writes, or on which its pods depend."""
OWN_LABELS: Final = frozenset({"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by"})


def bytes_of(quantity: str) -> int:
    """Return the bytes of a quantity of memory. Raise `ValueError` if it is not a quantity.

    >>> bytes_of("2Gi"), bytes_of("500M")
    (2147483648, 500000000)
    """
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is not a quantity")
    return int(match[1]) * _UNITS[match[2] or ""]


def _memory(text: str) -> str:
    if not _QUANTITY.fullmatch(text):
        near = _near_quantity(text)
        raise ValueError(f"expected a quantity such as 64Gi, 500Mi or 64G{f': {near}' if near else ''}")
    if not _LEAST_MEMORY <= bytes_of(text) < _MOST_MEMORY:
        raise ValueError("expected at least 1Mi and less than 1024Pi; a number without a unit counts bytes")
    return text


def _near_quantity(text: str) -> str:
    """Return the quantity that was probably meant, or an empty string: `64 GB` is 64G, `64GiB` is 64Gi."""
    match = re.fullmatch(r"\s*([0-9]+)\s*([kmgtp])(i?)b?\s*", text, re.IGNORECASE)
    if match is None:
        return ""
    letter = match[2].upper() if match[3] or match[2] not in "kK" else "k"
    return f"{match[1]}{letter}{match[3].lower()}"


def _named(pattern: str, *, longest: int, what: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text) or len(text) > longest:
            raise ValueError(f"expected {what}, at most {longest} characters")
        return text

    return AfterValidator(check)


def _label_key(text: str) -> str:
    prefix, slash, name = text.rpartition("/")
    fits = not slash or (re.fullmatch(_SUBDOMAIN, prefix) and len(prefix) <= _LONGEST_SUBDOMAIN)
    if not fits or not re.fullmatch(_WORD, name):
        raise ValueError(
            "expected a label such as gpu or example.com/gpu: 63 letters, digits and . _ - after the slash"
        )
    return text


def _own_label(text: str) -> str:
    if text in OWN_LABELS:
        raise ValueError("expected another label: Reprise sets this one")
    return text


def _label_value(text: str) -> str:
    if text and not re.fullmatch(_WORD, text):
        raise ValueError("expected at most 63 letters, digits and . _ -, with a letter or a digit at both ends")
    return text


def _path(text: str) -> str:
    if not _PATH.fullmatch(text) or {".", ".."} & set(text.split("/")):
        raise ValueError("expected an absolute path of letters, digits and . _ -, such as /var/cache/reprise")
    return text


def _mount_path(text: str) -> str:
    _path(text)
    if text == "/tmp" or any(f"{text}/".startswith(f"{each}/") for each in RESERVED_PATHS):  # noqa: S108 - a path in the container
        raise ValueError(f"expected a path outside {', '.join(RESERVED_PATHS)}, and other than /tmp")
    return text


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("expected text that UTF-8 can encode") from None
    return text


DnsLabel = Annotated[str, _named(_LABEL, longest=63, what="lower-case letters, digits and -")]
DnsName = Annotated[str, _named(_SUBDOMAIN, longest=_LONGEST_SUBDOMAIN, what="lower-case letters, digits, - and .")]
Memory = Annotated[str, AfterValidator(_memory)]
LabelKey = Annotated[str, AfterValidator(_label_key)]
OwnLabelKey = Annotated[str, AfterValidator(_label_key), AfterValidator(_own_label)]
LabelValue = Annotated[str, AfterValidator(_label_value)]
Path = Annotated[str, AfterValidator(_path)]
MountPath = Annotated[str, AfterValidator(_mount_path)]
Text = Annotated[str, AfterValidator(_text)]
ImageReference = Annotated[str, Field(pattern=r"^[a-z0-9][A-Za-z0-9._:/-]{0,254}@sha256:[0-9a-f]{64}$")]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Nfs(Document):
    """A folder on an NFS server."""

    server: DnsName
    path: Path


class Volume(Document):
    """The source of a folder in every pod. Exactly one key is set."""

    claim: DnsName | None = None
    """A PersistentVolumeClaim in the namespace. With several nodes, its volume must be writable from several nodes."""
    node_folder: Path | None = None
    """An existing folder on each node, which the user's uid can write; many clusters forbid such mounts."""
    nfs: Nfs | None = None
    size: Memory | None = None
    """An empty folder of at most this size, removed with the pod."""

    @model_validator(mode="after")
    def _one(self) -> Volume:
        if len(found := [name for name in type(self).model_fields if getattr(self, name) is not None]) != 1:
            raise ValueError(f"expected one of claim, node_folder, nfs and size; found {', '.join(found) or 'none'}")
        return self


class Toleration(Document):
    """A toleration of a taint, with Kubernetes' keys: the pods may run on nodes with the taint."""

    key: LabelKey | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Toleration:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("expected no value with the operator Exists")
        if self.operator == "Equal" and (self.key is None or self.value is None):
            raise ValueError('expected a key and a value; or operator = "Exists"')
        return self


class KubernetesSite(Document):
    """A Kubernetes cluster on which a team trains."""

    kind: Literal["kubernetes"]
    namespace: DnsLabel
    shape: Literal["job", "jobset"] = "job"
    """`job` needs no extension of the cluster; `jobset` needs JobSet, and restarts all machines of a run together."""
    environment: str | None = Field(default=None, pattern=NAME)
    """The environment whose image the pods start; by default the checkout's environment."""
    image: ImageReference | None = None
    """The image by digest, `NAME@sha256:...`; by default the environment's pinned image."""
    pass_on: tuple[VariableName, ...] = ()
    """Names of variables of the submitting shell whose values are written into the manifest; a secret belongs in `secret`."""
    secret: DnsName | None = None
    """Name of a Secret in the namespace; each of its keys becomes a variable, such as AWS_SECRET_ACCESS_KEY and WANDB_API_KEY."""
    image_pull_secrets: tuple[DnsName, ...] = ()
    cpus: Annotated[int, Field(ge=1, le=4096)]
    """CPUs of each machine of a run."""
    memory: Memory
    """Memory of each machine, including `shm`."""
    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    """The maximum number of GPUs of each machine; a run gets as many as it has devices."""
    shm: Memory = "2Gi"
    """The size of /dev/shm, with which loader workers and NCCL exchange data."""
    volumes: dict[MountPath, Volume] = {}
    """Volumes by their path in the container: `/cache`, which is otherwise an empty folder of each pod, and the folder of a store."""
    user: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1000
    """The uid of the processes."""
    group: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1000
    """The gid of the processes and of their volumes."""
    grace: Annotated[int, Field(ge=30, le=86_400)] = 120
    """Seconds from SIGTERM to SIGKILL, in which the step ends, and the checkpoint is written and uploaded."""
    retries: Annotated[int, Field(ge=0, le=1000)] = 3
    """How often a failed run is restarted; a run that was stopped and saved is always restarted."""
    labels: dict[OwnLabelKey, LabelValue] = {}
    """Labels of the job and its pods, such as `kueue.x-k8s.io/queue-name`."""
    annotations: dict[LabelKey, Text] = {}
    node_selector: dict[LabelKey, LabelValue] = {}
    tolerations: tuple[Toleration, ...] = ()
    pod: dict[str, Any] = {}
    """Further keys of the pod's spec, verbatim and unchecked, such as `priorityClassName`."""

    @model_validator(mode="after")
    def _consistent(self) -> KubernetesSite:
        if bytes_of(self.shm) >= bytes_of(self.memory):
            raise ValueError(
                f"expected shm less than memory, which includes it; found shm {self.shm}, memory {self.memory}"
            )
        if taken := sorted(OWN_POD_KEYS & self.pod.keys()):
            raise ValueError(f"expected keys of a pod that Reprise does not write; found pod.{short(taken[0])}")
        if sum(len(key.encode()) + len(value.encode()) for key, value in self.annotations.items()) > _MOST_ANNOTATIONS:
            raise ValueError("expected at most 32 KiB of annotations")
        return self
