"""LitServe with the program of a package, for `benchmarks/serving.py`: the same requests and responses as `reprise serve`.

serving_litserve.py PACKAGE PORT MAX_BATCH WAIT_SECONDS
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import litserve  # type: ignore[import-not-found] # only the peer's environment has it
import torch


class Packaged(litserve.LitAPI):  # type: ignore[misc] # it ships no types
    """A package whose net takes pictures and returns scores of classes."""

    def __init__(self, package: Path, **more: Any) -> None:
        super().__init__(**more)
        self.package = package

    def setup(self, device: str) -> None:  # noqa: ARG002 - the base class names it
        """Load the program."""
        self.program = torch.export.load(self.package / "model.pt2").module()
        self.classes = json.loads((self.package / "package.json").read_bytes())["answer"]["names"]

    def decode_request(self, request):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201 - LitServe evaluates annotations
        """Return the picture `[samples, 1, height, width]` of a request."""
        return torch.tensor(request["inputs"]["image"], dtype=torch.float32)

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Join requests."""
        return torch.cat(inputs)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores."""
        with torch.inference_mode():
            scores: torch.Tensor = self.program(x)["scores"]
            return scores

    def unbatch(self, output: torch.Tensor) -> list[torch.Tensor]:
        """Divide the scores by requests, which have one sample each."""
        return [output[number : number + 1] for number in range(len(output))]

    def encode_response(self, output):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201 - LitServe evaluates annotations
        """Return the prediction for each sample."""
        return {"predictions": [self.answer(row) for row in output.tolist()]}

    def answer(self, row: list[float]) -> dict[str, Any]:
        """Return the prediction for a sample."""
        best = max(range(len(row)), key=row.__getitem__)
        return {"class": self.classes[best], "scores": dict(zip(self.classes, row, strict=True))}


if __name__ == "__main__":
    folder, port, most, wait = sys.argv[1:]
    api = Packaged(Path(folder), max_batch_size=int(most), batch_timeout=float(wait))
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=int(port), log_level="error", generate_client_file=False)
