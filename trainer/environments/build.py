"""Building an image: from a declaration, the lock and the recipe to an image in the engine, known by its digests.

Knows what a build is given and when nothing needs building. Refuses to know Docker, and what the image is used for.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import unquote

from trainer.base.digest import canonical, digest_of_document, digest_of_file
from trainer.base.errors import ImageBuildError
from trainer.environments.declaration import image_json, inputs_of, load_environment, read_lock
from trainer.environments.engine import BuildRequest
from trainer.environments.lock_file import any_torch_build, misplaced
from trainer.source.capture import capture

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trainer.environments.declaration import Environment, Inputs
    from trainer.environments.engine import Engine, ImageFacts
    from trainer.environments.package_indexes import Indexes

Stage = Literal["environment", "code", "development"]
STAGES: Final[tuple[Stage, ...]] = ("environment", "code", "development")
REPOSITORY: Final = "localhost/reprise"
"""Not a name of any public registry: an image that is missing is not looked for on Docker Hub."""
EPOCH: Final = 1767225600
"""2026-01-01T00:00:00Z: the time of every file in every image."""
BASE_LABEL: Final = "org.opencontainers.image.base.name"
_BAKED: Final = re.compile(
    r"\.dockerignore|pyproject\.toml|uv\.lock|trainer/(.*/)?[^/]+\.py|(datasets|environments)/[^/]+\.toml"
)
"""What the code image bakes, of the files that a run would keep as its source."""
_SCRIPTS: Final = re.compile(r"docker/(install-[^/]+|describe)")
"""What runs in a build."""
_PLACE: Final = "# variables\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a build takes from the machine it runs on, and nothing of which is in the image."""

    base: str
    """The reference to build on; see scripts/base."""
    indexes: Indexes
    ca: Path | None
    proxies: Mapping[str, str]
    """`http_proxy` and its like, which BuildKit keeps out of the image by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A build that could be made, and the name it would have."""

    inputs: Inputs
    stage: Stage
    tag: str

    @property
    def build_id(self) -> str:
        """The digest of the environment's inputs: baked, the same for every stage."""
        return self.inputs.build_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An image that the engine has."""

    plan: Plan
    reference: str
    """What to run it by: `repository@sha256:...`, or the image's id on an engine that keeps no manifests."""
    manifest: str | None
    config: str
    layers: tuple[str, ...]
    size: int
    seconds: float | None
    """What the build took; None where nothing was built."""


def plan(name: str, *, stage: Stage, base: str, root: Path) -> Plan:
    """Say what a build would be of, and name it by its inputs: same inputs, same tag."""
    inputs = inputs_of(load_environment(name, root=root), base=base, root=root)
    said = (
        inputs.build_id
        if stage == "environment"
        else digest_of_document([inputs.build_id, stage, _beside(stage, root)])
    )
    suffix = "" if stage == "environment" else f"-{stage}"
    return Plan(inputs=inputs, stage=stage, tag=f"{REPOSITORY}/{name}{suffix}:{said.removeprefix('sha256:')[:16]}")


def current(name: str, *, stage: Stage, engine: Engine, root: Path) -> Built | None:
    """The image that the checkout's inputs name, where the engine has it: an image says itself which base it was built on."""
    for image in engine.images(f"reprise.environment={name}"):
        wanted = plan(name, stage=stage, base=image.labels.get(BASE_LABEL, ""), root=root)
        if wanted.tag in image.tags:
            return _built(wanted, image, engine, seconds=None)
    return None


def build(wanted: Plan, *, engine: Engine, machine: Machine, root: Path, fresh: bool = False) -> Built:
    """Make the image of a plan. `fresh` uses no cache. Raises `ImageBuildError`."""
    begun = time.monotonic()
    check_torch(wanted.inputs.environment, root=root)
    with tempfile.TemporaryDirectory(prefix="reprise-build-") as folder:
        request = _request(wanted, machine=machine, root=root, folder=Path(folder), fresh=fresh)
        seen = _seen(root, Path(folder) / "checkout") if wanted.stage == "code" else root
        engine.build(replace(request, root=seen))
    if (image := engine.image(wanted.tag)) is None:
        raise ImageBuildError(f"the engine built {wanted.tag} and does not have it", hint="reprise doctor")
    return _built(wanted, image, engine, seconds=time.monotonic() - begun)


def check_torch(environment: Environment, *, root: Path) -> None:
    """Raise `ImageBuildError` for a package that is locked for another build of torch: its import would fail after the build."""
    project = root / "pyproject.toml"
    exempt = any_torch_build(project.read_text(encoding="utf-8")) if project.is_file() else ()
    if wrong := misplaced(read_lock(root), environment.extras, exempt=exempt):
        said = (
            f"environment {environment.name}: uv.lock has {wrong[0].name} {wrong[0].version} for another build of torch"
        )
        raise ImageBuildError(said, hint="scripts/lock --check names the edit of pyproject.toml")


def recipe(text: str, variables: Mapping[str, str]) -> str:
    """The recipe with the environment's variables set where their place is marked."""
    if text.count(_PLACE) != 1:
        raise ImageBuildError(
            "docker/Dockerfile has no line `# variables`, or several: the variables have no place", hint="put it back"
        )
    pairs = " ".join(f'{name}="{value}"' for name, value in sorted(variables.items()))
    return text.replace(_PLACE, f"ENV {pairs}\n" if pairs else "")


def _request(wanted: Plan, *, machine: Machine, root: Path, folder: Path, fresh: bool) -> BuildRequest:
    environment = wanted.inputs.environment
    return BuildRequest(
        recipe=recipe((root / "docker" / "Dockerfile").read_text(encoding="utf-8"), environment.variables),
        root=root,
        stage=wanted.stage,
        tag=wanted.tag,
        arguments=_arguments(wanted, environment) | dict(machine.proxies),
        secrets=_secrets(machine, folder),
        contexts={"wheels": str(_wheels(machine.indexes.folders, root=root, folder=folder / "wheels"))},
        epoch=EPOCH,
        host_network=machine.indexes.on_loopback,
        fresh=fresh,
    )


def _arguments(wanted: Plan, environment: Environment) -> dict[str, str]:
    return {
        "BASE": wanted.inputs.base,
        "SYSTEM_PACKAGES": " ".join(sorted(environment.packages)),
        "EXTRAS": " ".join(environment.extras),
        "ENVIRONMENT": environment.name,
        "IMAGE_JSON": canonical(image_json(wanted.inputs)).decode(),
        "BUILD_ID": wanted.build_id,
    }


def _secrets(machine: Machine, folder: Path) -> dict[str, Path]:
    """Files for the build's secret mounts: the CA bundle as it lies, the index settings written out for this build."""
    index = folder / "index"
    index.touch(mode=0o600)
    index.write_text(machine.indexes.as_shell(), encoding="utf-8")
    return {"index": index} | ({"ca": machine.ca} if machine.ca else {})


def _wheels(folders: Iterable[Path], *, root: Path, folder: Path) -> Path:
    """Those files of the machine's folders of wheels that the lock names, in one folder, linked where that is possible."""
    folder.mkdir()
    lock = (root / "uv.lock").read_text(encoding="utf-8")
    wanted = {unquote(name) for name in re.findall(r'/([^/"]+\.whl)"', lock)}
    for source in (path for place in folders for path in sorted(place.glob("*.whl")) if path.name in wanted):
        target = folder / source.name
        if target.exists():
            continue
        try:
            target.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, target)
    return folder


def _beside(stage: Stage, root: Path) -> str:
    """What a stage adds to the environment: the package's files; for development the tools of the lock, and the lock itself."""
    if stage == "development":
        return digest_of_document({"uv.lock": digest_of_file(root / "uv.lock")})
    return digest_of_document({file.path: file.sha256 for file in capture(root).files if _BAKED.fullmatch(file.path)})


def _seen(root: Path, folder: Path) -> Path:
    """A copy of what a build of the code image may see: no file that git ignores, and none that looks like a secret."""
    for file in capture(root).files:
        if _BAKED.fullmatch(file.path) or _SCRIPTS.fullmatch(file.path):
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.data)
            shutil.copymode(root / file.path, target)
    return folder


def _built(wanted: Plan, image: ImageFacts, engine: Engine, *, seconds: float | None) -> Built:
    digests = engine.digests(image)
    repository = wanted.tag.rpartition(":")[0]
    return Built(
        plan=wanted,
        reference=f"{repository}@{digests.manifest}" if digests.manifest else image.id,
        manifest=digests.manifest,
        config=digests.config,
        layers=image.layers,
        size=image.size,
        seconds=seconds,
    )
