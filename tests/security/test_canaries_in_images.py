"""With a secret in each place that a build could read, no layer, configuration or history of an image contains a secret."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import IO, TYPE_CHECKING, Any, Final

import pyarrow as pa
import pytest

from tests.e2e.conftest import clone, docker
from tests.security.test_canaries_in_containers import FILES, FOR_CONTAINERS, IN_THE_SHELL, MARKED, canary, plant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.long]

IGNORED: Final = ("trainer/mine.py", "trainer/build/keys.py", "datasets/.env.toml")
"""Files that git ignores, with names that a build would read."""
VARIABLES: Final = (
    *(*IN_THE_SHELL, *FOR_CONTAINERS, "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INDEX_TEAM_USERNAME"),
    *("UV_INDEX_TEAM_PASSWORD", "UV_PUBLISH_TOKEN", "IMAGE_JSON", "SYSTEM_PACKAGES", "NO_PROXY", "no_proxy"),
)
"""Variables of the shell: secrets, settings of package indexes, names of build arguments, and proxy settings, which a build receives."""
PACKED: Final = {b"\x28\xb5\x2f\xfd": "zstd", b"\x1f\x8b\x08\x00": "gzip"}
LARGE: Final = 1 << 26


def find_in_file(name: str, data: bytes) -> set[str]:
    """Return the secrets in a file, even if it only looks compressed."""
    try:
        found = MARKED.in_bytes(data)
    except (OSError, EOFError):
        found = MARKED.in_bytes(b"." + data)
    return {f"{name}: {hit}" for hit in found}


def find_in_layer(layer: Any) -> Iterator[str]:
    """Yield the secrets in the names, links and contents of a layer's files."""
    with tarfile.open(fileobj=layer, mode="r|") as files:
        for file in files:
            yield from find_in_file("a name", f"{file.name} {file.linkname} {file.pax_headers}".encode())
            if file.isreg() and (body := files.extractfile(file)) is not None:
                yield from MARKED.in_stream(body) if file.size > LARGE else find_in_file(file.name, body.read())


def find_in_blob(blob: IO[bytes]) -> tuple[set[str], bool]:
    """Return the secrets in a part of a saved image, and whether the part is a layer; other parts are documents."""
    packing = PACKED.get(blob.read(4))
    blob.seek(257)
    is_layer = packing is not None or blob.read(5) == b"ustar"
    blob.seek(0)
    if not is_layer:
        return find_in_file("a document", blob.read()), False
    layer = pa.CompressedInputStream(pa.PythonFile(blob, mode="r"), packing) if packing else blob
    return set(find_in_layer(layer)), True


def find_in_image(reference: str, folder: Path) -> tuple[set[str], int]:
    """Return the secrets in the output of `docker save`, the history and the configuration, and the number of layers."""
    about = docker("history", "--no-trunc", reference) + docker("inspect", reference)
    found, layers = find_in_file("about it", about.encode()), 0
    docker("save", "--output", str(folder / "saved.tar"), reference)
    with tarfile.open(folder / "saved.tar") as saved:
        for part in saved:
            if (blob := saved.extractfile(part)) is not None:
                more, is_layer = find_in_blob(blob)
                found, layers = found | more, layers + is_layer
    (folder / "saved.tar").unlink()
    return found, layers


class Index(BaseHTTPRequestHandler):
    """An empty package index that records its requests."""

    requested: Final[set[str]] = set()

    def do_GET(self) -> None:
        self.requested.add(base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode())
        self.send_error(404)

    def log_message(self, *words: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    """Yield the address of the index, without user or password."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}/simple/"
        server.shutdown()


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout with a secret in each place, beside a home with the same files."""
    root = tmp_path_factory.mktemp("canaries") / "checkout"
    root.mkdir()
    clone(root)
    with (root / ".git/info/exclude").open("a") as file:
        file.write("mine.py\n")
    for name in (*FILES, *(f"{folder}/{name}" for folder in ("trainer", "docker") for name in FILES)):
        plant(root / name)
    for name in (*FILES, ".docker/token.json"):
        plant(root.parent / "home" / name)
    for name in IGNORED:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(f'x = "{canary(name)}"\n')
    (root / "trainer/key.py").write_text("API_" + f'KEY = "{canary("key.py")}"\n')
    (root / ".env").write_text("".join(f"{name}={canary(name)}\n" for name in VARIABLES))
    (root / "environments/canary.toml").write_text('like = "cpu"\nextras = ["store"]\n')
    return root


def build_image(planted: Path, name: str, stage: str, **more: str) -> str:
    shell = {each: canary(each) for each in VARIABLES} | {"HOME": str(planted.parent / "home")} | more
    shell |= {each: f"127.0.0.1,{canary(each)}.invalid" for each in ("NO_PROXY", "no_proxy")}
    command = [sys.executable, "-m", "trainer", "image", "build", name, "--stage", stage, "--json"]
    done = subprocess.run(command, cwd=planted, env=os.environ | shell, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert not MARKED.in_bytes(done.stdout + done.stderr)
    return str(json.loads(done.stdout)["reference"])


def remove_image(reference: str) -> None:
    names = json.loads(docker("image", "inspect", "--format", "{{json .RepoTags}}", reference))
    docker("image", "rm", "--force", *names)


@pytest.mark.parametrize("stage", ["code", "development"])
def test_no_image_contains_a_secret_of_the_build_machine(planted: Path, tmp_path: Path, stage: str) -> None:
    before = set(docker("image", "ls", "--no-trunc", "--quiet").split())
    reference = build_image(planted, "cpu", stage)
    try:
        found, layers = find_in_image(reference, tmp_path)
    finally:
        if docker("image", "inspect", "--format", "{{.Id}}", reference) not in before:
            remove_image(reference)
    assert (found, layers > 3) == (set(), True)


@pytest.mark.parametrize("place", ["UV_INDEX", "pip.conf"])
def test_an_index_gets_its_password_and_no_image_contains_it(
    planted: Path, tmp_path: Path, index: str, place: str
) -> None:
    address = f"http://team:{canary(place)}@{index}"
    conf = planted.parent / "home/.config/pip/pip.conf"
    conf.parent.mkdir(parents=True, exist_ok=True)
    conf.write_text(f"[global]\nextra-index-url = {address if place == 'pip.conf' else ''}\n")
    with (planted / "pyproject.toml").open("a") as file:
        file.write(f"# {index}{place}\n")
    reference = build_image(planted, "canary", "code", **({"UV_INDEX": address} if place == "UV_INDEX" else {}))
    try:
        found, layers = find_in_image(reference, tmp_path)
    finally:
        remove_image(reference)
    assert f"team:{canary(place)}" in Index.requested, "the build used it"
    assert (found, layers > 3) == (set(), True)


def test_the_search_finds_a_secret_in_a_saved_image() -> None:
    secret, layer = canary("here"), io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        for name, data in {
            "a": secret.encode(),
            "b": gzip.compress(secret.encode()),
            secret: b"",
            "c": b"\x1f\x8b",
        }.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            files.addfile(about, io.BytesIO(data))
    whole = layer.getvalue()
    for body in (whole, gzip.compress(whole), pa.compress(whole, "zstd", asbytes=True)):
        found, is_layer = find_in_blob(io.BytesIO(body))
        assert (sorted(hit.partition(":")[0] for hit in found), is_layer) == (["a", "a name", "b"], True)
    assert find_in_blob(io.BytesIO(secret.encode())) == (find_in_file("a document", secret.encode()), False)
