"""The keys that a confined container gets if the user granted the store."""

from __future__ import annotations

import pytest

from trainer.cli.runner.container import _KEYS, _store_key

LOCAL = {"REPRISE_STORE_KEY": "local", "REPRISE_STORE_SECRET": "locals", "REPRISE_STORE_TOKEN": ""}
LINES = {"AWS_ACCESS_KEY_ID": "line", "AWS_SECRET_ACCESS_KEY": "lines"}


@pytest.mark.parametrize(
    ("dotenv", "shell", "given"),
    [
        (LOCAL, {}, ["local", "locals", "", ""]),
        (LOCAL | LINES, {"AWS_ACCESS_KEY_ID": "shell", "AWS_SESSION_TOKEN": "token"}, ["local", "locals", "", ""]),
        (LINES, {}, ["line", "lines", "", ""]),
        (LINES, {"AWS_ACCESS_KEY_ID": "shell", "AWS_SESSION_TOKEN": "token"}, ["shell", "lines", "token", ""]),
    ],
)
def test_a_granted_store_gets_the_keys_that_compose_passes(
    dotenv: dict[str, str], shell: dict[str, str], given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in _KEYS:
        monkeypatch.delenv(name, raising=False)
    for name, value in shell.items():
        monkeypatch.setenv(name, value)
    assert [_store_key(name, dotenv) for name in _KEYS] == given
