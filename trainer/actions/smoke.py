"""Smoke-testing an image: it starts, it sees its device, it trains ten steps twice and gets the same weights.

Knows what to run in the image and how to read what came out. Refuses to know how training works.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainer.errors import EngineError

if TYPE_CHECKING:
    from trainer.actions.build_image import Built
    from trainer.engine import Engine

STEPS: Final = 10
_DEVICE: Final = (
    "import json, torch; print(json.dumps({'torch': torch.__version__, 'cuda': torch.version.cuda,"
    " 'device': torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'}))"
)
# Without a store and without a network: the data is made up on the spot from a seed, the numerics are the image's own.
_TRAIN: Final = f"""
import hashlib, torch
torch.manual_seed(0)
torch.use_deterministic_algorithms(True)
device = "cuda" if torch.cuda.is_available() else "cpu"
model = torch.nn.Sequential(torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(1024, 10)).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for _ in range({STEPS}):
    images, labels = torch.rand(64, 1, 8, 8).to(device), torch.randint(10, (64,)).to(device)
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()
digest = hashlib.sha256()
for name, tensor in sorted(model.state_dict().items()):
    digest.update(name.encode() + tensor.cpu().numpy().tobytes())
print("sha256:" + digest.hexdigest())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoke:
    """What was seen."""

    torch: str
    cuda: str | None
    device: str
    steps: int
    weights: str
    equal: bool

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def smoke(built: Built, *, engine: Engine, root: Path) -> Smoke:
    """Run the image. Raises `EngineError` where it does not start, trains differently twice, or has a GPU build but sees none of the GPUs."""
    gpus = engine.facts().nvidia and "cuda" in built.plan.inputs.environment.extras
    seen = json.loads(engine.run(built.reference, ["python", "-c", _DEVICE], mounts={}, gpus=gpus))
    if gpus and seen["device"] == "cpu":
        raise EngineError(f"{built.reference} was given the GPUs and sees none", hint="reprise doctor")
    first, second = (engine.run(built.reference, ["python", "-c", _TRAIN], mounts={}, gpus=gpus).split()[-1] for _ in range(2))
    if first != second:
        raise EngineError(f"{built.reference} trained {STEPS} steps twice and got {first[:19]} and {second[:19]}", hint="docs/environments.md")
    return Smoke(**seen, steps=STEPS, weights=first, equal=True)
