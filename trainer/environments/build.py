"""Building an environment's image from its declaration, the lock and the recipe."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import unquote

from trainer.base.digest import canonical, digest_of_document, digest_of_file
from trainer.base.errors import EngineAbsentError, EngineError, ImageBuildError, UsageError
from trainer.environments.declaration import image_json, inputs_of, load_environment, read_lock
from trainer.environments.engine import BuildRequest
from trainer.environments.lock_file import any_torch_build, empty_extras, misplaced
from trainer.source.capture import capture

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trainer.environments.declaration import Base, Environment, Inputs
    from trainer.environments.engine import Engine, ImageFacts
    from trainer.environments.package_indexes import Indexes

Stage = Literal["environment", "code", "development"]
STAGES: Final[tuple[Stage, ...]] = ("environment", "code", "development")
REPOSITORY: Final = "localhost/reprise"
"""A name without a public registry, so that the engine does not look for a missing image on Docker Hub."""
EPOCH: Final = 1767225600
"""2026-01-01T00:00:00Z, the modification time of every file in an image."""
BASE_LABEL: Final = "org.opencontainers.image.base.name"
_BAKED: Final = re.compile(
    r"\.dockerignore|pyproject\.toml|uv\.lock|trainer/(.*/)?[^/]+\.py|(datasets|environments)/[^/]+\.toml"
)
"""Files that the code image contains, if a run would capture them as its source."""
_SCRIPTS: Final = re.compile(r"docker/(install-[^/]+|describe)")
"""Scripts that a build runs."""
_VARIABLES: Final = "# variables\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildMachine:
    """The resources of this machine that a build uses. The image contains the base, and no setting of this machine."""

    base: str
    """The reference of the base image; see scripts/machine/base."""
    indexes: Indexes
    ca: Path | None
    proxies: Mapping[str, str]
    """`http_proxy` and similar variables, which BuildKit keeps out of the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """The inputs of a build and the tag of its image."""

    inputs: Inputs
    stage: Stage
    tag: str

    @property
    def build_id(self) -> str:
        """The digest of the environment's inputs, equal for every stage and baked into the image."""
        return self.inputs.build_id


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """An image that the engine has."""

    plan: BuildPlan
    reference: str
    """`repository@sha256:...`, or the image's ID on an engine that keeps no manifests."""
    manifest: str | None
    config: str
    layers: tuple[str, ...]
    size: int
    seconds: float | None
    """The duration of the build; None if the image existed."""


def plan(name: str, *, stage: Stage, base: str, root: Path) -> BuildPlan:
    """Return the plan of a build. Equal inputs have equal tags."""
    inputs = inputs_of(load_environment(name, root=root), base=base, root=root)
    if stage == "environment":
        suffix, digest = "", inputs.build_id
    else:
        suffix, digest = f"-{stage}", digest_of_document([inputs.build_id, stage, _additions(stage, root)])
    return BuildPlan(
        inputs=inputs, stage=stage, tag=f"{REPOSITORY}/{name}{suffix}:{digest.removeprefix('sha256:')[:16]}"
    )


def find_built_image(name: str, *, stage: Stage, engine: Engine, root: Path) -> BuiltImage | None:
    """Return the image of the checkout's inputs, or None if the engine does not have it. The base is read from the image's label."""
    for image in engine.images(f"reprise.environment={name}"):
        candidate = plan(name, stage=stage, base=image.labels.get(BASE_LABEL, ""), root=root)
        if candidate.tag in image.tags:
            return _built(candidate, image, engine, seconds=None)
    return None


def build(
    requested: BuildPlan, *, engine: Engine, machine: BuildMachine, root: Path, fresh: bool = False
) -> BuiltImage:
    """Build the image of a plan; `fresh` uses no cache. Raise `ImageBuildError` if the lock is unsuitable, or if the build fails."""
    start = time.monotonic()
    check_torch(requested.inputs.environment, root=root)
    check_machine(requested.inputs.environment, machine=engine.facts().architecture, root=root)
    with tempfile.TemporaryDirectory(prefix="reprise-build-") as folder:
        request = _request(requested, machine=machine, root=root, folder=Path(folder), fresh=fresh)
        context = _copy_for_build(root, Path(folder) / "checkout") if requested.stage == "code" else root
        engine.build(replace(request, root=context))
    if (image := engine.image(requested.tag)) is None:
        raise ImageBuildError(f"the engine built {requested.tag}, but does not have it", hint="reprise doctor")
    return _built(requested, image, engine, seconds=time.monotonic() - start)


def check_torch(environment: Environment, *, root: Path) -> None:
    """Raise `ImageBuildError` if a package is locked for another build of torch, since its import would fail."""
    project = root / "pyproject.toml"
    exempt = any_torch_build(project.read_text(encoding="utf-8")) if project.is_file() else ()
    if packages := misplaced(read_lock(root), environment.extras, exempt=exempt, python=environment.python):
        message = f"environment {environment.name}: uv.lock has {packages[0].name} {packages[0].version} for another build of torch"
        raise ImageBuildError(message, hint="scripts/lock --check prints the required edit of pyproject.toml")


def check_machine(environment: Environment, *, machine: str, root: Path) -> None:
    """Raise `ImageBuildError` if an extra has no package for the engine's machine: the image would lack torch, for example."""
    if empty := empty_extras(read_lock(root), environment.extras, python=environment.python, machine=machine):
        raise ImageBuildError(
            f"environment {environment.name}: extra {empty[0]!r} has no package for the engine's machine, {machine}",
            hint=f"build on x86_64; or add {machine} to the markers of {empty[0]!r} in pyproject.toml, then run scripts/lock",
        )


def recipe(text: str, variables: Mapping[str, str]) -> str:
    """Return the recipe with the environment's variables in place of the line `# variables`. Raise `ImageBuildError` without this line."""
    if text.count(_VARIABLES) != 1:
        raise ImageBuildError(
            "docker/Dockerfile has no line `# variables`, or several; expected one",
            hint="git checkout docker/Dockerfile",
        )
    pairs = " ".join(f'{name}="{value}"' for name, value in sorted(variables.items()))
    return text.replace(_VARIABLES, f"ENV {pairs}\n" if pairs else "")


def _request(requested: BuildPlan, *, machine: BuildMachine, root: Path, folder: Path, fresh: bool) -> BuildRequest:
    environment = requested.inputs.environment
    return BuildRequest(
        recipe=recipe((root / "docker" / "Dockerfile").read_text(encoding="utf-8"), environment.variables),
        root=root,
        stage=requested.stage,
        tag=requested.tag,
        arguments=_arguments(requested, environment) | dict(machine.proxies),
        secrets=_secrets(machine, folder),
        contexts={"wheels": str(_wheels(machine.indexes.folders, root=root, folder=folder / "wheels"))},
        epoch=EPOCH,
        host_network=machine.indexes.on_loopback,
        fresh=fresh,
    )


def _arguments(requested: BuildPlan, environment: Environment) -> dict[str, str]:
    return {
        "BASE": requested.inputs.base,
        "SYSTEM_PACKAGES": " ".join(_system_packages(environment)),
        "EXTRAS": " ".join(environment.extras),
        "ENVIRONMENT": environment.name,
        "IMAGE_JSON": canonical(image_json(requested.inputs)).decode(),
        "BUILD_ID": requested.build_id,
    }


def _system_packages(environment: Environment) -> list[str]:
    """Return the Debian packages to install. The build fails if the version of the base's python3 is not the declared version."""
    return [*sorted({*environment.packages} - {"python3"}), f"python3={environment.python}*"]


def _secrets(machine: BuildMachine, folder: Path) -> dict[str, Path]:
    """Return the files of the build's secret mounts: the CA bundle, and the index settings in a temporary file."""
    index = folder / "index"
    index.touch(mode=0o600)
    index.write_text(machine.indexes.as_shell(), encoding="utf-8")
    return {"index": index} | ({"ca": machine.ca} if machine.ca else {})


def _wheels(folders: Iterable[Path], *, root: Path, folder: Path) -> Path:
    """Link or copy the wheels that the lock names from the machine's folders into one folder."""
    folder.mkdir()
    lock = (root / "uv.lock").read_text(encoding="utf-8")
    names = {unquote(name) for name in re.findall(r'/([^/"]+\.whl)"', lock)}
    for source in (
        path for folder_of_wheels in folders for path in sorted(folder_of_wheels.glob("*.whl")) if path.name in names
    ):
        target = folder / source.name
        if target.exists():
            continue
        try:
            target.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, target)
    return folder


def _additions(stage: Stage, root: Path) -> str:
    """Return the digest of a stage's additions to the environment: the package's files, or the lock for development."""
    if stage == "development":
        return digest_of_document({"uv.lock": digest_of_file(root / "uv.lock")})
    return digest_of_document({file.path: file.sha256 for file in capture(root).files if _BAKED.fullmatch(file.path)})


def _copy_for_build(root: Path, folder: Path) -> Path:
    """Copy the files that a build of the code image may read: no file that git ignores, and no file that looks like a secret."""
    for file in capture(root).files:
        if _BAKED.fullmatch(file.path) or _SCRIPTS.fullmatch(file.path):
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.data)
            shutil.copymode(root / file.path, target)
    return folder


def _built(requested: BuildPlan, image: ImageFacts, engine: Engine, *, seconds: float | None) -> BuiltImage:
    digests = engine.digests(image)
    repository = requested.tag.rpartition(":")[0]
    return BuiltImage(
        plan=requested,
        reference=f"{repository}@{digests.manifest}" if digests.manifest else image.id,
        manifest=digests.manifest,
        config=digests.config,
        layers=image.layers,
        size=image.size,
        seconds=seconds,
    )


_KINDS: Final = {2: UsageError, 61: EngineAbsentError}


def resolve_base(declared: Base, *, root: Path) -> str:
    """Return the reference of the base image by digest. The first call can take half a minute; stderr shows its progress.

    Raise `UsageError`, `EngineAbsentError` or `EngineError` if `scripts/machine/base` fails.
    """
    result = subprocess.run(
        [root / "scripts" / "machine" / "base", declared], stdout=subprocess.PIPE, stderr=None, text=True, check=False
    )
    if result.returncode:
        kind = _KINDS.get(result.returncode, EngineError)
        raise kind(f"no base image for {declared.partition('@')[0]}: see the output above", hint="scripts/machine/base")
    return result.stdout.strip()
