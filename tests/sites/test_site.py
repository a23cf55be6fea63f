"""Declarations of clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import DocumentError, UsageError
from trainer.sites.site import SlurmSite, load_site, site_names

if TYPE_CHECKING:
    from pathlib import Path

SMALL = 'kind = "slurm"\nruntime = "docker"\ncache = "/var/cache/reprise"\n'
FILE = "/images/cpu.sif"


def declare(root: Path, text: str, name: str = "lab") -> None:
    (root / "sites").mkdir(exist_ok=True)
    (root / "sites" / f"{name}.toml").write_text(text)


def test_a_small_declaration_has_defaults(tmp_path: Path) -> None:
    declare(tmp_path, SMALL)
    found = load_site("lab", root=tmp_path)
    assert isinstance(found, SlurmSite)
    assert (found.runtime, found.gpus, found.grace, found.partition) == ("docker", 0, 120, None)
    assert site_names(tmp_path) == ["lab"]


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ('partitoin = "gpu"', "unknown key 'partitoin'", "did you mean partition?"),
        ('runtime = "dokcer"', "runtime: found 'dokcer'", "correct the value"),
        ('cache = "cache"', "cache: found 'cache'", "correct the value"),
        ('cache = "/a:b"', "cache: found '/a:b'", "correct the value"),
        ('time = "an hour"', "time: found 'an hour'", "correct the value"),
        ('partition = "a b"', "partition: found 'a b'", "correct the value"),
        ('partition = "a\\n#SBATCH --uid=0"', "partition: found", "correct the value"),
        ('lines = ["a\\nb"]', "lines.0: found", "correct the value"),
        ('image = "registry.example/team/cpu:latest"', "image: found", "correct the value"),
        (f'image = "{FILE}"', "docker needs NAME@sha256:DIGEST", "correct the value"),
        (f'runtime = "pyxis"\nimage = "{FILE}"', "names end in .sqsh", "correct the value"),
        ("memory = 64", "memory: found 64", "correct the value"),
    ],
)
def test_a_wrong_declaration_is_an_error_that_names_the_key(tmp_path: Path, line: str, message: str, hint: str) -> None:
    replaced = {each.partition(" =")[0] for each in line.splitlines()}
    kept = [each for each in SMALL.splitlines() if each.partition(" =")[0] not in replaced]
    declare(tmp_path, "\n".join([*kept, line]))
    with pytest.raises(DocumentError) as caught:
        load_site("lab", root=tmp_path)
    assert message in caught.value.message
    assert caught.value.hint == hint


def test_an_unknown_kind_is_an_error(tmp_path: Path) -> None:
    declare(tmp_path, 'kind = "lsf"')
    with pytest.raises(DocumentError, match="key 'kind' is 'lsf'; expected slurm"):
        load_site("lab", root=tmp_path)


def test_an_unknown_site_suggests_a_similar_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown site 'lab'") as caught:
        load_site("lab", root=tmp_path)
    assert "docs/how-to/cluster.md" in (caught.value.hint or "")
    declare(tmp_path, SMALL, "labs")
    with pytest.raises(UsageError) as caught:
        load_site("lab", root=tmp_path)
    assert caught.value.hint == "did you mean labs?"
