"""Values that are recognized as secrets."""

from __future__ import annotations

import pytest

from trainer.base.secret_detection import secret_by_content, secret_by_name

# Assembled from parts, so that no file of this repository looks like a secret.
KEY = b"q7Rt2xLm9KpVw3Zs8Yb4" + b"Nc6Hd1Jf5Ga0Te"  # 34 random characters
SAMPLES = {
    "private key": b"-----BEGIN OPENSSH " + b"PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE",
    "a private key": b'{"private_key": "-----BEGIN ' + b'PRIVATE KEY-----\\nMIIEvQIBADANBg"}',
    "AWS access key": b"aws = 'AKIA" + b"QYLPMN5HHHFPZAM2'",
    "key assigned to its variable": b"AWS_SECRET_ACCESS" + b"_KE" + b"Y=h3Jk/9dLq+2mZx8Rt5Vw0Yb7Nc4Pf6Sg1Ha2Kj3L",
    "GitHub token": b"ghp_" + b"0123456789abcdefghijABCDEFGHIJ012345",
    "GitLab token": b"glpat" + b"-" + KEY,
    "OpenAI key": b"sk-" + b"proj-" + KEY,
    "Anthropic key": b"sk-" + b"ant-api03-" + KEY,
    "Google API key": b"AI" + b"zaSy" + KEY[:33],
    "npm token": b"npm" + b"_" + KEY + b"9x",
    "Hugging Face token": b"hf" + b"_" + b"AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh",
    "Weights & Biases key": b"wandb" + b"_v1_" + KEY,
    "Slack webhook": b"https://hooks.slack" + b".com/services/" + KEY,
    "Azure storage key": b"AccountName=x;Account" + b"Key=" + KEY * 2 + b"==",
    "registry's password": b'{"auths": {"r.io": {"au' + b'th": "dXNlcjpwYXNzd29yZDEyMw=="}}}',
    "key of a cluster": b"client-key" + b"-data: " + KEY * 2,
    "password in an address": b"postgres://reader:" + b"hunter2hunter@db.lab/x",
    "key in a call of login": b"wandb.lo" + b"gin(ke" + b'y="' + KEY + b'")',
}
ASSIGNED = [
    b'os.environ["AWS_SECRET_ACCESS' + b'_KEY"] = "%s"',
    b"os.environ['WANDB_API" + b"_KEY']='%s'",
    b'environ.setdefault("AWS_SECRET_ACCESS' + b'_KEY", "%s")',
    b'"secretAccess' + b'Key": "%s"',
    b'{"source": ["os.environ[\\"AWS_SECRET_ACCESS' + b'_KEY\\"] = \\"%s\\"\\n"]}',
    b'{"source": ["environ.setdefault(\\"WANDB_API' + b'_KEY\\", \\"%s\\")"]}',
    b"api" + b"_key = %s",
    b"pass" + b'word = "%s"',
    b"  tok" + b"en: %s\n",
    b"$env:HF_TOK" + b"EN='%s'",
]


@pytest.mark.parametrize("form", ASSIGNED)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_random_value_with_the_name_of_a_secret_is_found(form: bytes, encoding: str) -> None:
    text = b"import os\n" + form % KEY + b"\n"
    assert secret_by_content(text.decode().encode(encoding)) == "it contains a key assigned to its variable"


@pytest.mark.parametrize(
    "code",
    [
        b"token = tokenizer.next_token_id_2",
        b"pass" + b'word = "correct-horse-battery-staple"',
        b'secret = os.environ["AWS_SECRET_ACCESS' + b'_KEY"]',
        b'key_path = "data/sets/version2/keys.json"',
        b"api" + b'_key = "YOUR_API_KEY_0123456789"',
        b'key="sha256:0123456789abcdef0123456789abcdef"',
        b"# tokens: 1234567890123456789",
        b"wandb_api" + b'_key: "<your key of 40 characters>"',
        b"http://user:pass" + b"word@host/",
        b"git clone https://${USER}:${TOKEN_OF_MINE}@host/x",
        b"max_tokens=1000000000000000, passwords=None",
    ],
)
def test_ordinary_code_is_not_a_secret(code: bytes) -> None:
    assert secret_by_content(code + b"\n") is None


@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".env.local", ".envrc", ".env~", "..env.x1.partial", "prod.env"),
        *("server.pem", "tls.key", "id_ed25519", "credentials", "credentials.json", ".netrc"),
        *("id_rsa_backup", "key.pem.bak", ".netrc.bak", "aws_credentials", "prod-credentials.json", ".s3cfg", ".boto"),
        *("application_default_credentials.json", "terraform.tfvars", "local.settings.json", ".docker/config.json"),
        *(".kube/config", "kube/config", "secrets/prod.yaml", "wandb/settings", ".aws/config", "a/.ssh/work"),
    ],
)
def test_files_with_names_of_secrets_are_found(name: str) -> None:
    assert secret_by_name(name)


@pytest.mark.parametrize(
    "name", [".env.example", "id_map.py", "id_ed25519.pub", "credentials.py", "keys.py", "environment.toml", "monkey"]
)
def test_ordinary_names_are_not_secrets(name: str) -> None:
    assert secret_by_name(name) is None


@pytest.mark.parametrize("kind", SAMPLES)
def test_contents_of_secrets_are_found_and_named(kind: str) -> None:
    reason = secret_by_content(b"x = 1\n" + SAMPLES[kind] + b"\n")
    assert reason is not None
    assert reason.endswith(kind)


def test_the_example_key_of_documentation_is_not_a_secret() -> None:
    assert secret_by_content(b"AKIAIOSFODNN7" + b"EXAMPLE") is None
    assert secret_by_content(b"aws_secret_access" + b"_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY") is None


@pytest.mark.parametrize(
    "form", [b"wandb_api" + b'_key: "%s"', b"export WANDB_API" + b"_KEY='%s'", b'"aws_session' + b'_token" = "%s"']
)
def test_a_key_is_found_however_it_is_assigned(form: bytes) -> None:
    assert secret_by_content(form % (b"0123456789abcdef" * 3))
    assert secret_by_content(form % b"${WANDB_API_KEY:?set it in your environment}") is None
