"""Manifests of runs: golden files, strict validation with Kubernetes' schemas, and the rules that the schemas lack."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sites.kubernetes_plans import GOLDEN, IMAGE, PLANS, VARIABLES, make_plan, make_site
from trainer.base.errors import DocumentError, RepriseError, SettingError, StoppedError, UsageError
from trainer.cli.nodes import read_node
from trainer.sites.kubernetes import manifest_text, manifests, unexpanded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trainer.sites.kubernetes_site import KubernetesSite
    from trainer.sites.plan import Plan


def require_strictly_valid(documents: Iterable[Mapping[str, Any]], versions: Sequence[str] = ("1.37",)) -> None:
    """Validate objects strictly with Kubernetes' schemas; of a JobSet, which has no schema, validate its Job."""
    for document in documents:
        whole = (
            {"apiVersion": "batch/v1", "kind": "Job", **job_template(document)}
            if document["kind"] == "JobSet"
            else document
        )
        for version in versions:
            kubernetes_validate.validate(whole, version, strict=True)


def job_template(jobset: Mapping[str, Any]) -> dict[str, Any]:
    [replicated] = jobset["spec"]["replicatedJobs"]
    return dict(replicated["template"])


def pod_of(plan: Plan, site: KubernetesSite) -> dict[str, Any]:
    job = manifests(plan, site)[-1]
    spec: dict[str, Any] = (job_template(job) if job["kind"] == "JobSet" else job)["spec"]["template"]["spec"]
    return spec


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Return a word or a value as Kubernetes passes it."""
    return re.sub(
        r"\$(\$|\(([^)]*)\))", lambda found: "$" if found[1] == "$" else variables.get(found[2], found[0]), text
    )


@pytest.mark.parametrize("name", PLANS)
def test_the_manifest_of_a_plan_is_as_kept(name: str) -> None:
    assert manifest_text(*PLANS[name]) == (GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PLANS)
def test_a_kept_manifest_is_strictly_valid(name: str) -> None:
    documents = list(yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")))
    assert documents == manifests(*PLANS[name])
    require_strictly_valid(documents, ("1.31", "1.37"))


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
VALUES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", fullmatch=True)
KEYS = VALUES | st.builds("{}/{}".format, NAMES, VALUES)
PATHS = st.from_regex(r"(/[a-z0-9_]{2,6}[.-]?){1,3}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.text("$(){}AB \n", max_size=8)
VOLUMES = st.one_of(
    st.fixed_dictionaries({"claim": NAMES}),
    st.fixed_dictionaries({"node_folder": PATHS}),
    st.fixed_dictionaries({"nfs": st.fixed_dictionaries({"server": NAMES, "path": PATHS})}),
    st.fixed_dictionaries({"size": st.sampled_from(["1Gi", "500M", "1048576"])}),
)
EFFECTS = st.fixed_dictionaries(
    {}, optional={"effect": st.sampled_from(["NoSchedule", "PreferNoSchedule", "NoExecute"])}
)
TOLERATIONS = st.one_of(
    st.builds(lambda key, value, effect: {"key": key, "value": value, **effect}, KEYS, VALUES, EFFECTS),
    st.builds(lambda effect: {"operator": "Exists", **effect}, EFFECTS),
)
SITES = st.fixed_dictionaries(
    {"namespace": NAMES, "shape": st.sampled_from(["job", "jobset"]), "gpus": st.integers(0, 8)},
    optional={
        "secret": NAMES,
        "cpus": st.integers(1, 200),
        "memory": st.sampled_from(["64Gi", "16G", "1Ti", "99999M"]),
        "shm": st.sampled_from(["1Gi", "500M"]),
        "volumes": st.dictionaries(PATHS | st.just("/cache"), VOLUMES, max_size=3),
        "labels": st.dictionaries(KEYS, VALUES, max_size=2),
        "annotations": st.dictionaries(KEYS, TEXTS, max_size=2),
        "node_selector": st.dictionaries(KEYS, VALUES | st.just(""), max_size=2),
        "image_pull_secrets": st.lists(NAMES, max_size=2),
        "tolerations": st.lists(TOLERATIONS, max_size=2),
        "grace": st.integers(30, 86_400),
        "retries": st.integers(0, 1000),
        "user": st.integers(1, 2**31 - 1),
    },
)
VARIABLES_OF_A_PLAN = st.dictionaries(st.from_regex("[A-Z_][A-Z0-9_]{0,3}", fullmatch=True), TEXTS, max_size=3)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(SITES, st.lists(TEXTS, min_size=1, max_size=3), VARIABLES_OF_A_PLAN, st.integers(1, 9), st.integers(1, 8))
def test_a_manifest_by_the_rules_is_strictly_valid_and_every_text_is_passed_unchanged(
    site: dict[str, Any], words: list[str], variables: dict[str, str], nodes: int, share: int
) -> None:
    declared = make_site(**site)
    devices = nodes * min(share, declared.gpus or share)
    plan = make_plan(words=words, variables={**variables, **VARIABLES}, nodes=nodes, devices=devices)
    documents = manifests(plan, declared)
    require_strictly_valid(documents)
    assert list(yaml.safe_load_all(manifest_text(plan, declared))) == documents
    [container] = pod_of(plan, declared)["containers"]
    values = {each["name"]: each.get("value", "") for each in container["env"]}
    assert [expanded(word, values) for word in container["args"]] == words
    assert all(expanded(values[name], values) == value for name, value in variables.items())


def test_the_schemas_find_an_unknown_key_of_a_pod() -> None:
    [job] = manifests(make_plan(), make_site(pod={"priorityClasName": "batch"}))
    with pytest.raises(kubernetes_validate.ValidationError, match="priorityClasName"):
        require_strictly_valid([job])


@pytest.mark.parametrize("shape", ["job", "jobset"])
def test_the_variables_of_a_pod_give_the_launcher_its_place(shape: str) -> None:
    plan, site = make_plan(nodes=2, devices=4), make_site(shape=shape)
    variables = {each["name"]: each.get("value", "1") for each in pod_of(plan, site)["containers"][0]["env"]}
    place = read_node(variables)
    assert place is not None
    first = plan.name if shape == "job" else f"{plan.name}-train-0"
    assert (place.node, place.nodes, place.host, place.port) == (1, 2, f"{first}-0.{plan.name}", 29500)
    assert len(place.host.partition(".")[0]) <= 63


def test_one_node_needs_no_service_and_no_place() -> None:
    plan, site = make_plan(), make_site()
    [job] = manifests(plan, site)
    names = {each["name"] for each in pod_of(plan, site)["containers"][0]["env"]}
    assert job["kind"] == "Job"
    assert not names & {"REPRISE_NODES", "REPRISE_NODE", "REPRISE_MAIN_ADDRESS"}
    assert "successPolicy" not in job["spec"]


def test_a_stopped_or_disrupted_pod_is_replaced_without_being_counted() -> None:
    spec = manifests(*PLANS["two-nodes-of-four-gpus"])[-1]["spec"]
    ignored = [rule for rule in spec["podFailurePolicy"]["rules"] if rule["action"] == "Ignore"]
    assert ignored[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert ignored[1]["onExitCodes"]["values"] == [75, StoppedError.code]
    [hopeless] = [rule for rule in spec["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    assert {UsageError.code, DocumentError.code, SettingError.code} <= set(hopeless["onExitCodes"]["values"])
    assert not {1, 75, 92, 130, 137, 143} & set(hopeless["onExitCodes"]["values"])
    assert (spec["podReplacementPolicy"], spec["template"]["spec"]["restartPolicy"]) == ("Failed", "Never")


def test_a_jobset_restarts_all_machines_and_counts_only_failures() -> None:
    [jobset] = manifests(*PLANS["jobset-with-odd-names"])
    job = job_template(jobset)["spec"]
    assert job["backoffLimit"] == 0
    assert {rule["action"] for rule in job["podFailurePolicy"]["rules"]} == {"FailJob"}
    [rule] = jobset["spec"]["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("RestartJobSetAndIgnoreMaxRestarts", ["PodFailurePolicy"])


@pytest.mark.parametrize("name", PLANS)
def test_a_pod_meets_the_restricted_standard_and_has_no_account_of_the_cluster(name: str) -> None:
    pod = pod_of(*PLANS[name])
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["image"] == IMAGE
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert not security["allowPrivilegeEscalation"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert ("/project" in writable) == (container["name"] == "fetch-source")


def test_a_pod_reserves_as_many_gpus_as_its_share_of_the_devices() -> None:
    [container] = pod_of(make_plan(nodes=2, devices=4), make_site(gpus=4))["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"


@pytest.mark.parametrize(
    ("plan", "site", "expected"),
    [
        ({"image": "registry.example/team/cpu:latest"}, {}, "no tag can move"),
        ({"image": f"localhost/reprise/cpu@sha256:{'0' * 64}"}, {}, "nodes cannot pull it"),
        ({"variables": {**VARIABLES, "REPRISE_STORE": "s3://b?profile=lab"}}, {}, "which pods do not have"),
        ({"nodes": 2, "devices": 3}, {}, "2 nodes cannot share equally"),
        ({"nodes": 2, "devices": 16}, {"gpus": 4}, "2 nodes of this site have 8 GPUs"),
        ({"devices": 0}, {}, "devices is 0"),
        ({"secrets": ["AWS_ACCESS_KEY_ID"]}, {}, "the site names no secret"),
        ({"secrets": ["KEY"], "variables": {**VARIABLES, "KEY": "1"}}, {"secret": "s"}, "its value would be written into the manifest"),
        ({"variables": {**VARIABLES, "A-B": ""}}, {}, "letters, digits and _"),
        ({"variables": {**VARIABLES, "REPRISE_STORE": ""}}, {}, "no store is configured"),
        ({"variables": {**VARIABLES, "REPRISE_STORE": "/mnt/s"}}, {"volumes": {"/mnt/s1": {"size": "1Gi"}}}, "none of the site's volumes"),
        ({"variables": {**VARIABLES, "REPRISE_SOURCE": "main"}}, {}, "not the digest of a submitted source"),
        ({"words": ["train", "a\0b"]}, {}, "zero byte"),
        ({"words": ["train", "\ud800"]}, {}, "not valid UTF-8"),
        ({"words": ["train", "x" * (1 << 17)]}, {}, "expected at most 131,072"),
        ({"run": "latest"}, {}, "expected the ID of a run"),
        ({"nodes": 1001, "devices": 1001}, {}, "expected 1 to 1000"),
    ],
)  # fmt: skip
def test_a_plan_that_a_site_cannot_run_is_rejected_with_a_hint(
    plan: dict[str, Any], site: dict[str, Any], expected: str
) -> None:
    with pytest.raises(RepriseError, match=re.escape(expected)) as caught:
        manifests(make_plan(**plan), make_site(**site))
    assert caught.value.hint


@given(st.text("$(){}ab", max_size=12))
def test_kubernetes_passes_every_text_unchanged(text: str) -> None:
    assert expanded(unexpanded(text), {"a": "1", "b": "2", "": "3"}) == text
