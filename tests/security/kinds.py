"""All kinds of external documents, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.security.data_documents import cache, declaration, labels, manifest, npy, parquet, pictures, version
from tests.security.own_documents import documents, environment, points_toml, settings, sweep
from tests.security.package_documents import package_manifest, package_signature, weights_retest
from tests.security.run_documents import (
    certificate,
    checkpoint,
    claim_of_another,
    figures,
    latest,
    metrics,
    published,
    record,
    retest,
    seal,
    snapshot,
    source,
    trace,
    weights,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.security.kind import Kind

KINDS: dict[str, Callable[[Path], Kind]] = {
    "record": record,
    "seal": seal,
    "snapshot": snapshot,
    "claim": claim_of_another,
    "published": published,
    "latest": latest,
    "settings": settings,
    "declaration": declaration,
    "version": version,
    "manifest": manifest,
    "npy": npy,
    "parquet": parquet,
    "weights": weights,
    "trace": trace,
    "metrics": metrics,
    "figures": figures,
    "retest": retest,
    "certificate": certificate,
    "weights retest": weights_retest,
    "package signature": package_signature,
    "package manifest": package_manifest,
    "documents": documents,
    "sweep": sweep,
    "lock": environment,
    "toml": points_toml,
    "source": source,
    "labels": labels,
    "checkpoint": checkpoint,
    "lease": cache,
    "pictures": pictures,
}
