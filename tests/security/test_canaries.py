"""With a secret in each place where users keep secrets, no secret reaches a run, a store, a report, a sweep, a log or the terminal."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import pytest

from tests.cli.data.conftest import typed as typed_data
from tests.training.conftest import EXPERIMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.training.conftest import Checkout

__all__ = ["typed_data"]
pytestmark = [pytest.mark.torch, pytest.mark.trains]


def canary(place: str, *, length: int = 40) -> str:
    """Return a value that looks like a key: letters and digits that are distinct for each place."""
    digest = hashlib.sha512(f"canary of {place}".encode()).digest()
    return "q7" + base64.b64encode(digest).decode().replace("+", "").replace("/", "")[: length - 2]


ENVIRONMENT: Final = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "WANDB_API_KEY",
    "HF_TOKEN",
    "DB_PASSWORD",
    "REPRISE_SETTING_TOKEN",
)
"""Environment variables with secrets; the last variable is a setting of type SecretStr."""
FROM_FILE: Final = "a secret setting in a settings file"
# texts are concatenated, so that this file does not look like a secret itself
SOURCES: Final[dict[str, str]] = {
    "train.ini": "aws_secret_access" + "_key = %s",
    ".aws/credentials": "x = %s",
    ".git-credentials": "https://u:%s@example.com",
    ".netrc": "machine x login y password %s",
    ".pgpass": "h:5432:d:u:%s",
    ".env": "WANDB_API" + "_KEY=%s",
    ".env.local": "x=%s",
    "prod.env": "x=%s",
    "secrets.yaml": "x: %s",
    "secrets/prod.yaml": "x: %s",
    "notebook.ipynb": '{"source": ["os.environ[\\"AWS_SECRET_ACCESS' + '_KEY\\"] = \\"%s\\""]}',
    "plain.py": "import os\nos.environ['WANDB_API" + "_KEY']='%s'\n",
    "call.py": "wandb.lo" + "gin(ke" + 'y="%s")\n',
    "account.json": '{"private_key": "-----BEGIN ' + 'PRIVATE KEY-----\\n%s"}',
    "gitlab.txt": "glpat" + "-%s",
    "openai.py": "k = 'sk-" + "proj-%s'",
    "anthropic.py": "k = 'sk-" + "ant-api03-%s'",
    "azure.txt": "AccountName=x;Account" + "Key=%s%s",
    "slack.py": "u = 'https://hooks.slack" + ".com/services/%s'",
    "database.py": "u = 'postgres://reader:" + "%s@db.lab/x'",
    ".docker/config.json": '{"auths": {"r": {"auth": "%s"}}}',
    "kube/config": "x: %s",
    "wandb/settings": "x = %s",
    "terraform.tfvars": 'x = "%s"',
    "local.settings.json": '{"x": "%s"}',
    "utf16.txt": "pass" + 'word = "%s"',
    "id_rsa_backup": "%s",
    "points.toml": "# tok" + 'en = "%s"\n[[points]]\nlearning_rate = 0.01\n',
}
"""Files in the checkout that git does not ignore, each with its own secret."""
BESIDE: Final = {"remote": "url of the remote", "header": "http.extraheader", "home": ".netrc of the home"}
"""Places that no Reprise command needs to read."""
LEAK: Final = """
        import base64, json, logging, os, sys, warnings
        from urllib.parse import quote
        inner = [os.environ[name] for name in NAMES] + [each.get_secret_value() for each in (self.token, self.other)]
        for value in inner if not self.printed else ():
            print(value, repr(value), json.dumps({"key": value}), f"https://u:{quote(value, safe='')}@host/")
            print(base64.b64encode(f"user:{value}".encode()).decode(), file=sys.stderr)
            logging.getLogger("lightning.pytorch").warning("log %s", value)
            logging.getLogger("mine").error("log %s", value)
            warnings.warn(f"warning {value}", stacklevel=1)
        self.printed = True
        if self.breaks:
            raise RuntimeError(f"{inner} {dict(os.environ)}")
"""
CODE: Final = (
    EXPERIMENT.replace("from torch", "from pydantic import SecretStr\nfrom torch", 1)
    .replace(
        "    breaks: bool = False\n",
        '    breaks: bool = False\n    token: SecretStr = SecretStr("")\n    other: SecretStr = SecretStr("")\n',
    )
    .replace("breaks: bool) -> None:", "breaks: bool, token: SecretStr, other: SecretStr) -> None:")
    .replace(
        "        self.breaks = breaks\n",
        "        self.breaks, self.token, self.other, self.printed = breaks, token, other, 0\n",
    )
    .replace(
        "        return self.layers(images.T if self.breaks else images)",
        LEAK.replace("NAMES", repr(list(ENVIRONMENT))).lstrip("\n") + "        return self.layers(images)",
    )
)


def encodings(value: str) -> Iterator[bytes]:
    """Yield the encodings to search for: text, UTF-16, URL, JSON, Base64 at any offset, hexadecimal digits."""
    data = value.encode()
    yield from (data, value.encode("utf-16-le"), value.encode("utf-16-be"), quote(value, safe="").encode())
    yield from (json.dumps(value)[1:-1].encode(), data.hex().encode())
    for before in range(3):
        text = base64.b64encode(b"\0" * before + data)
        yield text[4 if before else 0 : len(text) // 4 * 4 - 4]


def file_bodies(places: Mapping[str, Path]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of every file below `places`, and also the decompressed content of gzip files."""
    for name, folder in places.items():
        for path in sorted(folder.rglob("*")):
            yield f"the name of {name}", path.name.encode()
            if path.is_file():
                body = path.read_bytes()
                yield f"{name}: {path.relative_to(folder)}", body
                if body.startswith(b"\x1f\x8b"):
                    yield f"{name}: {path.relative_to(folder)}, unpacked", gzip.decompress(body)


def find_canaries(values: Mapping[str, str], texts: list[tuple[str, bytes]]) -> list[str]:
    looked = {place: set(encodings(value)) for place, value in values.items()}
    return [
        f"{place} in {where}" for place, each in looked.items() for where, body in texts if any(x in body for x in each)
    ]


@pytest.fixture(scope="module")
def host(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return the checkout of a user with a secret in every place."""
    place = tmp_path_factory.mktemp("canaries")
    for whole, new in ((checkout.root, "checkout"), (checkout.store, "store")):
        shutil.copytree(whole, place / new, ignore=lambda here, _, top=str(whole): ["runs"] if here == top else [])
    (place / "checkout/runs").mkdir()
    target = replace(checkout, root=place / "checkout", store=place / "store")
    (target.root / "leak.py").write_text(CODE)
    for name, text in SOURCES.items():
        (target.root / name).parent.mkdir(parents=True, exist_ok=True)
        body = text.replace("%s", canary(name))
        (target.root / name).write_bytes(body.encode("utf-16" if name == "utf16.txt" else "utf-8"))
    remote = f"https://oauth2:{canary(BESIDE['remote'])}@git.example/x.git"
    for words in (
        ("init", "--quiet"),
        ("remote", "add", "origin", remote),
        ("config", "http.extraheader", f"AUTHORIZATION: bearer {canary(BESIDE['header'])}"),
        ("add", "leak.py", "dots.py", "trainer"),
        ("-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "-m", "x"),
    ):
        subprocess.run(["git", *words], cwd=target.root, check=True, capture_output=True)
    home = place / "home"
    home.mkdir()
    (home / ".netrc").write_text(f"machine api.wandb.ai login user password {canary(BESIDE['home'])}\n")
    (home / "settings.toml").write_text(f'other = "{canary(FROM_FILE)}"\nmax_epochs = 1\n')
    return target


def run_reprise(host: Checkout, *words: str) -> tuple[int, bytes]:
    """Run a Reprise command with all secrets in the environment; return its exit code and its output."""
    own = {name: canary(name) for name in ENVIRONMENT} | {"HOME": str(host.root.parent / "home")}
    command = [sys.executable, "-m", "trainer", *words]
    done = subprocess.run(command, cwd=host.root, env=host.environ | own, capture_output=True, check=False, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_no_canary_leaves_its_location(host: Checkout) -> None:
    settings = str(host.root.parent / "home/settings.toml")
    train = ("train", "--exp", "leak.py", "--settings", settings, "--wandb", "offline", "--tensorboard")
    printed: list[tuple[str, bytes]] = []

    def say(expected: int, *words: str) -> None:
        code, text = run_reprise(host, *words)
        printed.append((f"the terminal: {words[0]}", text))
        assert code == expected, text.decode()

    say(0, *train)
    say(82, *train, "--breaks")
    runs = sorted(path.name for path in (host.root / "runs").glob("[0-9]*"))
    say(0, "runs", "publish", runs[1])
    for words in (("report", *runs, "--no-samples"), ("runs", "show", runs[1]), ("compare", *runs)):
        say(30 if words[0] == "compare" else 0, *words)
    say(0, "sweep", "leak.py", "--points", "points.toml", "--max-epochs", "1")
    values = {place: canary(place) for place in (*ENVIRONMENT, FROM_FILE, *SOURCES, *BESIDE.values())}
    assert len(set(values.values())) >= 30
    texts = [*printed, *file_bodies({"runs": host.root / "runs", "store": host.store})]
    assert not find_canaries(values, texts)
    kinds = {Path(name).suffix for name, _ in texts}
    assert {".html", ".wandb", ".gz", ".jsonl", ".toml"} <= kinds
    assert any("tfevents" in name for name, _ in texts)


@pytest.mark.parametrize("key", ["source", "license"])
def test_a_password_in_the_description_of_a_dataset_is_not_published(
    typed_data: Callable[..., tuple[int, str, str]], tmp_path: Path, key: str
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.txt").write_text("a")
    value = canary(f"{key} of a declaration")
    code, out, err = typed_data("publish", "dots", "d", f"--{key}", f"https://u:{value}@host/x")
    assert (code, "it contains a password in an address" in err) == (44, True)
    texts = [
        ("the terminal", f"{out}{err}".encode()),
        *file_bodies({"all": tmp_path / "store", "declared": tmp_path / "datasets"}),
    ]
    assert not find_canaries({key: value}, texts)


def test_the_search_finds_a_canary_in_each_form() -> None:
    value = canary("x")
    samples = [value, quote(f"https://u:{value}@h"), json.dumps([value]), value.encode().hex()]
    samples += [base64.b64encode(f"{'a' * before}{value}bc".encode()).decode() for before in range(3)]
    for text in (*map(str.encode, samples), f"a{value}".encode("utf-16"), f"a{value}".encode("utf-16-be")):
        assert find_canaries({"x": value}, [("y", text)]) == ["x in y"], text
    assert not find_canaries({"x": value}, [("y", b"nothing")])
