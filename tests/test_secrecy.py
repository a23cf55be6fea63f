"""What is taken for a secret."""

from __future__ import annotations

import pytest

from trainer.secrecy import secret_by_content, secret_by_name

# Put together here, so that no file of this repository looks like a secret itself.
SAMPLES = {
    "private key": b"-----BEGIN OPENSSH " + b"PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE",
    "AWS access key": b"aws = 'AKIA" + b"QYLPMN5HHHFPZAM2'",
    "key assigned to its variable": b"AWS_SECRET_ACCESS" + b"_KEY=h3Jk/9dLq+2mZx8Rt5Vw0Yb7Nc4Pf6Sg1Ha2Kj3L",
    "GitHub token": b"ghp_" + b"0123456789abcdefghijABCDEFGHIJ012345",
}


@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".env.local", ".envrc", ".env~", "..env.x1.partial", "prod.env"),
        *("server.pem", "tls.key", "id_ed25519", "credentials", "credentials.json", ".netrc"),
    ],
)
def test_files_named_as_secrets_are_found(name: str) -> None:
    """The names that keys and passwords are kept under are known."""
    assert secret_by_name(name)


@pytest.mark.parametrize(
    "name", [".env.example", "id_map.py", "id_ed25519.pub", "credentials.py", "keys.py", "environment.toml", "monkey"]
)
def test_ordinary_names_are_no_secrets(name: str) -> None:
    """Code that is about keys is no key."""
    assert secret_by_name(name) is None


@pytest.mark.parametrize("kind", SAMPLES)
def test_contents_of_secrets_are_found_and_named(kind: str) -> None:
    """The reason says which kind of secret it is, never the secret."""
    reason = secret_by_content(b"x = 1\n" + SAMPLES[kind] + b"\n")
    assert reason is not None
    assert reason.endswith(kind)


def test_the_key_of_the_vendors_documentation_is_no_secret() -> None:
    """The example that all documentation uses passes."""
    assert secret_by_content(b"AKIAIOSFODNN7" + b"EXAMPLE") is None
    assert secret_by_content(b"aws_secret_access" + b"_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY") is None


@pytest.mark.parametrize(
    "form", [b"wandb_api" + b'_key: "%s"', b"export WANDB_API" + b"_KEY='%s'", b'"aws_session' + b'_token" = "%s"']
)
def test_a_key_is_found_however_it_is_assigned(form: bytes) -> None:
    """In YAML, in a shell, in JSON or TOML; the variable's name alone, or a reference to it, is none."""
    assert secret_by_content(form % (b"0123456789abcdef" * 3))
    assert secret_by_content(form % b"${WANDB_API_KEY:?set it in your environment}") is None
