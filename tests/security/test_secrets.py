"""No credential in an exception reaches the terminal, the log, the record or the JSON error."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final

import pytest

from tests.training.conftest import EXPERIMENT

if TYPE_CHECKING:
    from tests.training.conftest import Checkout

pytestmark = [pytest.mark.torch, pytest.mark.trains]
CANARIES: Final = {
    "AWS_SECRET_ACCESS_KEY": "canary/secret" + "+key=0123456789",
    "AWS_SESSION_TOKEN": "canary-session" + "-token-0123456789",
    "WANDB_API_KEY": "canary01234" + "56789abcdef0123456789abcdef01",
    "REPRISE_SETTING_TOKEN": "canary-of-a-secret-setting",
    "DB_PASSWORD": 'canary "quoted" ümlaut',
}
LEAK: Final = """
        import base64, json, os, sys
        from urllib.parse import quote
        FORMS = (str, repr, json.dumps, quote, lambda value: base64.b64encode(value.encode()).decode())
        texts = [f(os.environ[name]) for name in NAMES for f in FORMS]
        print(*texts)
        print(*texts, file=sys.stderr)
        raise RuntimeError(f"{texts} {self.token.get_secret_value()} {dict(os.environ)}")
"""


@pytest.fixture
def leaking_checkout(checkout: Checkout) -> Checkout:
    """Return a checkout whose experiment prints its secrets and raises an exception that contains them."""
    code = EXPERIMENT.replace("from torch", "from pydantic import SecretStr\nfrom torch", 1)
    code = code.replace("    breaks: bool = False\n", "    breaks: bool = False\n    token: SecretStr | None = None\n")
    code = code.replace("breaks: bool) -> None:", "breaks: bool, token: SecretStr | None) -> None:")
    code = code.replace("        self.breaks = breaks\n", "        self.breaks, self.token = breaks, token\n")
    code = code.replace(
        "        return self.layers",
        LEAK.replace("NAMES", repr(list(CANARIES))).lstrip("\n") + "        return self.layers",
    )
    (checkout.root / "leak.py").write_text(code)
    return checkout


def encodings(value: str) -> set[bytes]:
    return {value.encode(), json.dumps(value)[1:-1].encode(), base64.b64encode(value.encode()).rstrip(b"=")[:-1]}


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_no_value_of_a_secret_leaves_the_process(leaking_checkout: Checkout, option: list[str]) -> None:
    code, out, err = leaking_checkout.train("--exp", "leak.py", *option, **CANARIES)
    assert code != 0
    assert "RuntimeError" in err
    kept = [path for path in leaking_checkout.root.rglob("runs/**/*") if path.is_file() and path.name != "leak.py"]
    assert {"record.json", "log.txt"} <= {path.name for path in kept}
    texts = {"out": out.encode(), "err": err.encode()} | {str(path): path.read_bytes() for path in kept}
    for name, value in CANARIES.items():
        found = [place for place, text in texts.items() if any(form in text for form in encodings(value))]
        assert not found, f"{name} in {found}"
    assert "[redacted: WANDB_API_KEY]" in err
