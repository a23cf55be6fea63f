"""The declaration of a cluster: quantities, names and keys that a schema accepts and Kubernetes rejects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import tomli_w

from tests.sites.kubernetes_plans import SITE
from trainer.base.document import read_toml
from trainer.base.errors import DocumentError
from trainer.sites.kubernetes_site import KubernetesSite, bytes_of

if TYPE_CHECKING:
    from pathlib import Path


def read(folder: Path, changes: dict[str, Any]) -> KubernetesSite:
    (folder / "lab.toml").write_text(tomli_w.dumps({**SITE, **changes}))
    return read_toml(folder / "lab.toml", KubernetesSite)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"memory": "64 GB"}, "64G"),
        ({"memory": "64GiB"}, "64Gi"),
        ({"memory": "two"}, "expected a quantity such as 64Gi"),
        ({"memory": "64"}, "a number without a unit counts bytes"),
        ({"memory": "1.5Gi"}, "expected a quantity"),
        ({"shm": "16Gi"}, "expected shm less than memory"),
        ({"namespace": "Research"}, "lower-case letters"),
        ({"namespace": "a" * 64}, "at most 63 characters"),
        ({"secret": "my_secret"}, "lower-case letters"),
        ({"shape": "jobs"}, "'job' or 'jobset'"),
        ({"tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoShedule"}]}, "'NoSchedule'"),
        ({"tolerations": [{"key": "gpu", "operator": "Exists", "value": "x"}]}, "no value with the operator Exists"),
        ({"tolerations": [{"value": "x"}]}, "a key and a value"),
        ({"tolerations": [{"key": "a", "operatr": "Exists"}]}, "tolerations.0.operatr"),
        ({"node_selector": {"gpu type": "a"}}, "expected a label"),
        ({"node_selector": {"gpu": "a b"}}, "letters, digits"),
        ({"labels": {"app.kubernetes.io/name": "x"}}, "Reprise sets this one"),
        ({"volumes": {"/project/data": {"claim": "x"}}}, "expected a path outside /bin"),
        ({"volumes": {"/tmp": {"claim": "x"}}}, "other than /tmp"),  # noqa: S108 - a path in a container
        ({"volumes": {"cache": {"claim": "x"}}}, "absolute path"),
        ({"volumes": {"/a/../project": {"claim": "x"}}}, "absolute path"),
        ({"volumes": {"/cache": {"claim": "x", "size": "1Gi"}}}, "found claim, size"),
        ({"volumes": {"/cache": {}}}, "found none"),
        ({"pod": {"restartPolicy": "Always"}}, "found pod.restartPolicy"),
        ({"user": 0}, "greater than or equal to 1"),
        ({"image": "team/cpu:latest"}, "image"),
        ({"gpu": 4}, "unknown key 'gpu'"),
    ],
)
def test_an_invalid_declaration_is_rejected_by_its_key(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(DocumentError, match=expected) as caught:
        read(tmp_path, changes)
    assert "lab.toml" in caught.value.message
    assert caught.value.hint


def test_an_unknown_key_is_answered_with_the_similar_key(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        read(tmp_path, {"name_space": "x"})
    assert caught.value.hint == "did you mean namespace?"


def test_quantities_are_compared_as_bytes() -> None:
    assert bytes_of("1Gi") > bytes_of("1G") > bytes_of("1000Ki")
    with pytest.raises(ValueError, match="not a quantity"):
        bytes_of("1 Gi")
