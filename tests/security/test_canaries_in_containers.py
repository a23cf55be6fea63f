"""With a secret in each place where users keep secrets, no secret reaches a container's labels, a run, its report or a store."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import subprocess
from typing import IO, TYPE_CHECKING, Any, Final

import pytest

from tests.e2e.conftest import House, clone, docker, dotenv_values, first_result, house, house_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import CommandResult

__all__ = ["first_result", "house"]
pytestmark = [pytest.mark.engine, pytest.mark.long]

MARK: Final = "Q7x5" + "kcanaryZr8w"
"""The common prefix of all secrets; the rest names the place."""
FILES: Final = (".netrc", ".aws/credentials", "id_rsa", "secrets.yaml", "deploy/.env")
FOR_CONTAINERS: Final = ("WANDB_API_KEY", "DB_PASSWORD", "REPRISE_SETTING_TOKEN")
IN_THE_SHELL: Final = ("GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN")
PRINTS: Final = """
        import base64, json, os, sys, urllib.parse
        if not self.printed:
            texts = [self.token.get_secret_value(), repr(dict(os.environ)), json.dumps(dict(os.environ))]
            texts += [f(value) for name, value in os.environ.items() if "KEY" in name or "PASSWORD" in name
                      for f in (urllib.parse.quote, lambda text: base64.b64encode(text.encode()).decode())]
            print(*texts)
            print(*texts, file=sys.stderr)
            self.printed = True
        if os.environ.get("LEAK") == "raise":
            raise RuntimeError(str(texts))
"""


def canary(place: str) -> str:
    return f"{MARK}-{re.sub('[^a-z]', '-', place.lower())}-0123456789"


def encodings(secret: str) -> list[bytes]:
    """Return the encodings of a secret: text, UTF-16, hexadecimal digits, and Base64 at any offset."""
    plain = secret.encode()
    shifted = [base64.b64encode(b"\0" * shift + plain)[4 if shift else 0 :].rstrip(b"=")[:-1] for shift in range(3)]
    return [plain, secret.encode("utf-16-le"), plain.hex().encode(), *shifted]


class Search:
    """Searches bytes, which may be compressed, streams and files for secrets."""

    def __init__(self, secrets: list[str]) -> None:
        patterns = {form for secret in secrets for form in encodings(secret)}
        self._of = re.compile(b"|".join(map(re.escape, sorted(patterns))))

    def in_bytes(self, data: bytes) -> set[str]:
        packed = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else b""
        return {f"{match.group()!r}{data[match.end() : match.end() + 20]!r}" for match in self._of.finditer(data)} | (
            self.in_bytes(packed) if packed else set()
        )

    def in_stream(self, stream: IO[bytes]) -> set[str]:
        found: set[str] = set()
        last = b""
        while block := stream.read(1 << 24):
            found |= {str(match.group()) for match in self._of.finditer(last + block)}
            last = block[-200:]
        return found

    def in_files(self, folder: Path) -> dict[str, set[str]]:
        return {
            str(path): found
            for path in folder.rglob("*")
            if path.is_file() and (found := self.in_bytes(path.read_bytes()))
        }


MARKED: Final = Search([MARK])


def test_the_search_finds_a_secret_in_each_form(tmp_path: Path) -> None:
    secret = canary("here")
    for data in (
        secret.encode(),
        secret.encode("utf-16-le"),
        secret.encode().hex().encode(),
        gzip.compress(secret.encode()),
    ):
        assert MARKED.in_bytes(b"." + data if data[:2] != b"\x1f\x8b" else data)
    assert all(MARKED.in_bytes(base64.b64encode(b"x" * shift + secret.encode())) for shift in range(6))
    (tmp_path / "a").write_text("f" + secret)
    with (tmp_path / "a").open("rb") as stream:
        assert MARKED.in_stream(stream)


@pytest.fixture(scope="module")
def planted(house: House, first_result: CommandResult, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Yield a checkout whose files, home, shell and `.env` contain secrets."""
    assert first_result.code == 0, first_result.text
    root, home = tmp_path_factory.mktemp("reprise-canary-"), tmp_path_factory.mktemp("home-")
    clone(root)
    for name in (*FILES, *(f"trainer/{name}" for name in FILES)):
        plant(root / name)
    for name in FILES:
        plant(home / name)
    for words in (
        ("remote", "add", "origin", f"https://user:{canary('remote')}@host.invalid/x.git"),
        ("config", "http.extraheader", f"Authorization: Bearer {canary('extraheader')}"),
    ):
        subprocess.run(["git", *words], cwd=root, check=True)
    (root / ".env").write_text("".join(f"{name}={canary(name)}\n" for name in FOR_CONTAINERS))
    code = (root / "trainer/experiments/digits.py").read_text()
    code = code.replace("from pydantic import PositiveInt", "from pydantic import PositiveInt, SecretStr")
    code = code.replace("    channels: PositiveInt", "    token: SecretStr | None = None\n\n    channels: PositiveInt")
    code = code.replace(
        "channels: int, classes: int) -> None:", "channels: int, classes: int, token: SecretStr | None) -> None:"
    )
    code = code.replace(
        "        super().__init__()\n", "        super().__init__()\n        self.token, self.printed = token, False\n"
    )
    code = code.replace("        scores: Tensor", PRINTS.lstrip("\n") + "        scores: Tensor")
    (root / "leak.py").write_text(code)
    shell = {name: canary(name) for name in IN_THE_SHELL} | {"HOME": str(home)}
    with house_at(root, house.env | shell) as mine:
        result = mine.type("scripts/setup")
        assert result.code == 0, result.text
        yield mine


def plant(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[default]\naws_secret_access_key = {canary(path.name)}\n")


@pytest.mark.parametrize("leak", ["print", "raise"])
def test_a_run_that_prints_every_secret_leaks_none(planted: House, tmp_path: Path, leak: str) -> None:
    name, environ = f"{planted.root.name}-{leak}", [f"--env={each}" for each in FOR_CONTAINERS]
    words = ["docker", "compose", "run", "--name", name, *environ, f"--env=LEAK={leak}", "train", "--exp", "leak.py"]
    output = House(root=planted.root, env=planted.env | tokens(planted)).type(
        *words, "--max-epochs", "1", "--wandb", "offline"
    )
    try:
        assert (output.code == 0) is (leak == "print"), output.text
        assert "[redacted: " in output.text
        about: dict[str, Any] = json.loads(docker("inspect", name))[0]
        logs = subprocess.run(["docker", "logs", name], capture_output=True, check=True)
    finally:
        docker("rm", "--force", name)
    environment = about["Config"].pop("Env")
    holding = {line.partition("=")[0] for line in environment if MARKED.in_bytes(line.encode())}
    assert holding == set(FOR_CONTAINERS), "and none of the shell's"
    (tmp_path / "store").mkdir()
    (tmp_path / "report").mkdir()
    page = tmp_path / "report/page.html"
    for command in (
        ("runs", "publish", output.run),
        ("runs", "push", output.run, "--store", str(tmp_path / "store")),
        ("report", output.run, "-o", str(page)),
    ):
        done = planted.type("scripts/reprise", *command)
        assert done.code == 0, done.text
        assert not MARKED.in_bytes(done.text.encode())
    own = dotenv_values(planted)
    search = Search([MARK, own["REPRISE_STORE_SECRET"]])
    for text in (output.text.encode(), logs.stdout, logs.stderr, json.dumps(about).encode()):
        assert not search.in_bytes(text)
    run = planted.root / "runs" / output.run
    kept = {path.name for path in run.rglob("*")}
    assert {"record.json", "log.txt", "source.tar.gz", "wandb", "tensorboard"} <= kept, kept
    assert not search.in_files(run)
    assert not search.in_files(tmp_path)
    assert page.stat().st_size > 0
    shutil.rmtree(run / "source", ignore_errors=True)


def tokens(planted: House) -> dict[str, str]:
    """Return the secrets for containers: `docker compose run --env NAME` passes the value from the shell."""
    return {name: value for name, value in dotenv_values(planted).items() if name in FOR_CONTAINERS}
