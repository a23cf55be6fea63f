"""What looks like a secret, by a file's name or by its bytes.

Knows the names that keys and passwords are kept under, and the shapes of common keys. Refuses to be complete: it
stops the usual accidents, no more. It reads what it is given and remembers nothing.
"""

from __future__ import annotations

import re
from typing import Final

_NAMES: Final = re.compile(
    r"""(?ix)
      \.{1,2}env(rc|~|\..+)?
    | .+\.env
    | .+\.(pem|key|p12|pfx|jks|keystore|kdbx|ppk|ovpn)
    | id_(rsa|dsa|ecdsa|ed25519)(_sk)?
    | \.?credentials(\.(json|toml|ya?ml|ini|csv|txt|env))?
    | secrets?\.(json|toml|ya?ml|ini|csv|txt|env)
    | \.(netrc|pypirc|npmrc|pgpass|htpasswd|git-credentials|dockercfg|dockerconfigjson)
    | (client[_-]secret|service[_-]account).*\.json
    | kubeconfig
    """,
)
_EXAMPLES: Final = re.compile(r"(?i)\.env\.(example|sample|template|dist)")

_SHAPES: Final = (
    ("a private key", re.compile(rb"-----BEGIN [A-Z ]{0,24}PRIVATE KEY( BLOCK)?-----\s")),
    ("an AWS access key", re.compile(rb"\b(?:AKIA|ASIA)(?![A-Z2-7]{9}EXAMPLE)[A-Z2-7]{16}\b")),
    (
        "a key assigned to its variable",
        re.compile(
            rb"(?i)(?<![a-z0-9])(?:aws_secret_access_key|aws_session_token|wandb_api_key)\b['\"]?\s*[=:]\s*['\"]?"
            rb"(?![a-z0-9/+]*EXAMPLE)[a-z0-9/+=]{30,}"
        ),
    ),
    ("a GitHub token", re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b")),
    ("a Hugging Face token", re.compile(rb"\bhf_[A-Za-z]{34}\b")),
    ("a Slack token", re.compile(rb"\bxox[abprs]-[0-9A-Za-z-]{20,}\b")),
)


def secret_by_name(name: str) -> str | None:
    """Why a file of this name is taken for a secret; None when it is not.

    >>> secret_by_name(".env"), secret_by_name(".env.example"), secret_by_name("id_map.py")
    ('its name is that of a secret', None, None)
    """
    if _EXAMPLES.fullmatch(name) or not _NAMES.fullmatch(name):
        return None
    return "its name is that of a secret"


def secret_by_content(data: bytes) -> str | None:
    """Why these bytes are taken for a secret; None when they are not.

    >>> secret_by_content(b"learning_rate = 0.1")
    """
    for name, shape in _SHAPES:
        if shape.search(data):
            return f"it contains {name}"
    return None
