"""The manifest of a run on Kubernetes: an indexed Job and the Service that gives its pods names, or a JobSet. Pure functions.

Each pod is a machine of the run. Its init container fetches the source from the store, and its container runs the plan's command.
The manifest needs Kubernetes 1.31 or later; docs/how-to/kubernetes.md has the reasons for each policy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import (
    CheckpointError,
    DatasetError,
    DocumentError,
    DriftError,
    ExperimentError,
    ExperimentFailedError,
    ImageMismatchError,
    LockError,
    NotDeterministicError,
    NotFiniteError,
    PreemptedError,
    ResumeError,
    SettingError,
    SourceError,
    StoppedError,
    UntrustedCodeError,
    UsageError,
)
from trainer.runs.submitted_source import SOURCE_VARIABLE, SUBMITTED
from trainer.sites.kubernetes_rules import require_valid
from trainer.sites.yaml_text import yaml_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.sites.kubernetes_site import KubernetesSite, Volume
    from trainer.sites.plan import Plan

PORT: Final = 29_500
CONTAINER: Final = "train"
REPLICATED_JOB: Final = "train"
"""The name of the only Job in a JobSet."""
STOPPED: Final = (PreemptedError.code, StoppedError.code)
"""Exit codes after a stop: of node 0 with a checkpoint, and of node 0 without a checkpoint or of another node."""
HOPELESS: Final = sorted(
    error.code
    for error in (
        UsageError, DocumentError, SettingError, ExperimentError, DatasetError, SourceError, LockError, NotDeterministicError,
        ExperimentFailedError, NotFiniteError, UntrustedCodeError, ImageMismatchError, DriftError, ResumeError, CheckpointError,
    )
)  # fmt: skip
"""Exit codes of errors that the same command would raise again on any machine."""
_PROJECT: Final = "/project"
_RUNS: Final = "/project/runs"
_CACHE: Final = "/cache"
_FETCH: Final = Path(__file__).with_name("place_source.py")
_INDEX: Final = "batch.kubernetes.io/job-completion-index"


def manifest_text(plan: Plan, site: KubernetesSite) -> str:
    """Return the manifest as YAML for `kubectl apply --filename`. Raise the errors of `require_valid`."""
    return yaml_text(manifests(plan, site))


def manifests(plan: Plan, site: KubernetesSite) -> list[dict[str, Any]]:
    """Return the objects of a run. Raise the errors of `require_valid`."""
    require_valid(plan, site)
    if site.shape == "jobset":
        return [_jobset(plan, site)]
    job = _object("batch/v1", "Job", plan, site, _job_spec(plan, site))
    return [job] if plan.nodes == 1 else [_service(plan, site), job]


def _object(version: str, kind: str, plan: Plan, site: KubernetesSite, spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": plan.name,
        "namespace": site.namespace,
        "labels": {**_own_labels(plan), **site.labels},
    }
    if site.annotations:
        metadata["annotations"] = dict(site.annotations)
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def _own_labels(plan: Plan) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "reprise",
        "app.kubernetes.io/instance": plan.run,
        "app.kubernetes.io/managed-by": "reprise",
    }


def _service(plan: Plan, site: KubernetesSite) -> dict[str, Any]:
    """Return the headless Service, which gives each pod a name before it is ready."""
    selector = {name: value for name, value in _own_labels(plan).items() if not name.endswith("managed-by")}
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": selector}
    return _object("v1", "Service", plan, site, spec)


def _job_spec(plan: Plan, site: KubernetesSite) -> dict[str, Any]:
    """Return the spec of the Job, in which each failed pod is replaced separately."""
    rules: list[dict[str, Any]] = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": _exit_codes(STOPPED)},
        {"action": "FailJob", "onExitCodes": _exit_codes(HOPELESS)},
    ]
    return _indexed(plan, site, rules=rules, backoff=site.retries * plan.nodes)


def _jobset(plan: Plan, site: KubernetesSite) -> dict[str, Any]:
    """Return a JobSet, in which a failed pod fails the Job, and all pods start again."""
    rules: list[dict[str, Any]] = [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": _exit_codes(STOPPED)},
    ]
    template = {"metadata": {"labels": _own_labels(plan)}, "spec": _indexed(plan, site, rules=rules, backoff=0)}
    uncounted = {
        "name": "stoppedOrDisrupted",
        "action": "RestartJobSetAndIgnoreMaxRestarts",
        "onJobFailureReasons": ["PodFailurePolicy"],
    }
    spec = {
        "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
        "failurePolicy": {"maxRestarts": site.retries, "rules": [uncounted]},
        "replicatedJobs": [{"name": REPLICATED_JOB, "replicas": 1, "template": template}],
    }
    return _object("jobset.x-k8s.io/v1alpha2", "JobSet", plan, site, spec)


def _exit_codes(codes: Sequence[int]) -> dict[str, Any]:
    return {"containerName": CONTAINER, "operator": "In", "values": sorted(codes)}


def _indexed(plan: Plan, site: KubernetesSite, *, rules: list[dict[str, Any]], backoff: int) -> dict[str, Any]:
    several = {"successPolicy": {"rules": [{"succeededIndexes": "0"}]}} if plan.nodes > 1 else {}
    return {
        "completionMode": "Indexed",
        "completions": plan.nodes,
        "parallelism": plan.nodes,
        "backoffLimit": backoff,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": rules},
        **several,  # node 0 keeps the record: the run is complete when node 0 is
        "template": _pod(plan, site),
    }


def _pod(plan: Plan, site: KubernetesSite) -> dict[str, Any]:
    metadata: dict[str, Any] = {"labels": {**_own_labels(plan), **site.labels}}
    if site.annotations:
        metadata["annotations"] = dict(site.annotations)
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": site.grace,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": site.user,
            "runAsGroup": site.group,
            "fsGroup": site.group,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [_fetching_container(plan, site)],
        "containers": [_training_container(plan, site)],
        "volumes": _volumes(site),
    }
    if plan.nodes > 1 and site.shape == "job":
        spec["subdomain"] = plan.name
    if site.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in site.image_pull_secrets]
    if site.node_selector:
        spec["nodeSelector"] = dict(site.node_selector)
    if site.tolerations:
        spec["tolerations"] = [each.model_dump(exclude_none=True) for each in site.tolerations]
    return {"metadata": metadata, "spec": {**spec, **site.pod}}


def _fetching_container(plan: Plan, site: KubernetesSite) -> dict[str, Any]:
    """Return the init container, which fetches the source and unpacks it into /project."""
    resources = {"cpu": "1", "memory": "512Mi"}
    names = [
        name for name in sorted(plan.variables) if name in {"REPRISE_STORE", SOURCE_VARIABLE} or name.startswith("AWS_")
    ]
    return {
        "name": "fetch-source",
        **_image_of(plan),
        "command": ["python", "-I", "-c", unexpanded(_FETCH.read_text(encoding="utf-8"))],
        "args": [_PROJECT, f"{_RUNS}/{SUBMITTED}"],
        "env": [_variable(name, plan.variables[name]) for name in names],
        **_secret_of(site),
        "resources": {"requests": resources, "limits": resources},
        "securityContext": _container_security(),
        "volumeMounts": [
            _mount("project", _PROJECT),
            _mount("runs", _RUNS),
            _mount("tmp", "/tmp"),  # noqa: S108 - a path in the container
            *(_mount(f"volume-{number}", path) for number, path in enumerate(sorted(site.volumes))),
        ],
    }


def _training_container(plan: Plan, site: KubernetesSite) -> dict[str, Any]:
    resources = {"cpu": str(site.cpus), "memory": site.memory}
    if site.gpus:
        resources["nvidia.com/gpu"] = str(plan.devices // plan.nodes)
    own_cache = [] if _CACHE in site.volumes else [_mount("cache", _CACHE)]
    return {
        "name": CONTAINER,
        **_image_of(plan),
        "args": [unexpanded(word) for word in plan.words],
        "env": [
            *(
                _variable(name, value)
                for name, value in sorted(plan.variables.items())
                if name not in _own_variables(plan)
            ),
            *_own_variables(plan, site).values(),
        ],
        **_secret_of(site),
        "resources": {"requests": resources, "limits": resources},
        "securityContext": _container_security(),
        "volumeMounts": [
            {**_mount("project", _PROJECT), "readOnly": True},
            _mount("runs", _RUNS),
            _mount("home", "/home/reprise"),
            _mount("tmp", "/tmp"),  # noqa: S108 - a path in the container
            _mount("shm", "/dev/shm"),  # noqa: S108 - a path in the container
            *own_cache,
            *(_mount(f"volume-{number}", path) for number, path in enumerate(sorted(site.volumes))),
        ],
    }


def _own_variables(plan: Plan, site: KubernetesSite | None = None) -> dict[str, dict[str, Any]]:
    """Return, by name, the variables that depend on the pod: the name of its machine, and its place among the run's machines."""
    variables = {"REPRISE_HOST": {"name": "REPRISE_HOST", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}}
    if plan.nodes > 1:
        name = plan.name
        first = f"{name}-{REPLICATED_JOB}-0-0" if site is not None and site.shape == "jobset" else f"{name}-0"
        index = {"fieldRef": {"fieldPath": f"metadata.annotations['{_INDEX}']"}}
        variables |= {
            "REPRISE_NODES": _variable("REPRISE_NODES", str(plan.nodes)),
            "REPRISE_NODE": {"name": "REPRISE_NODE", "valueFrom": index},
            "REPRISE_MAIN_ADDRESS": _variable("REPRISE_MAIN_ADDRESS", f"{first}.{name}:{PORT}"),
        }
    return variables


def _volumes(site: KubernetesSite) -> list[dict[str, Any]]:
    own = ["project", "runs", "home", "tmp", *([] if _CACHE in site.volumes else ["cache"])]
    return [
        *({"name": name, "emptyDir": {}} for name in own),
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": site.shm}},
        *(
            {"name": f"volume-{number}", **_volume(site.volumes[path])}
            for number, path in enumerate(sorted(site.volumes))
        ),
    ]


def _volume(volume: Volume) -> dict[str, Any]:
    if volume.claim is not None:
        return {"persistentVolumeClaim": {"claimName": volume.claim}}
    if volume.node_folder is not None:
        return {"hostPath": {"path": volume.node_folder, "type": "Directory"}}
    if volume.nfs is not None:
        return {"nfs": {"server": volume.nfs.server, "path": volume.nfs.path}}
    return {"emptyDir": {"sizeLimit": volume.size}}


def _image_of(plan: Plan) -> dict[str, Any]:
    return {"image": plan.image, "imagePullPolicy": "IfNotPresent"}


def _secret_of(site: KubernetesSite) -> dict[str, Any]:
    return {} if site.secret is None else {"envFrom": [{"secretRef": {"name": site.secret}}]}


def _container_security() -> dict[str, Any]:
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def _mount(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "mountPath": path}


def _variable(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "value": unexpanded(value)}


def unexpanded(text: str) -> str:
    """Escape a text so that Kubernetes passes it unchanged: in words and variables, Kubernetes expands `$(NAME)`, and `$$` to `$`.

    >>> unexpanded("$(HOME) costs $5")
    '$$(HOME) costs $$5'
    """
    return text.replace("$", "$$")
