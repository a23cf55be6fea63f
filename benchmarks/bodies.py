"""The two nets whose steps are timed, from 8x8 images to ten scores: a transformer of 10 M parameters, and a net of the digits' size."""

from __future__ import annotations

from torch import Tensor, nn

BATCH = 8


class Transformer(nn.Module):
    """Eight layers over the 64 pixels of an image."""

    def __init__(self) -> None:
        """Create the layers."""
        super().__init__()
        self.pixels = nn.Linear(1, 320)
        layer = nn.TransformerEncoderLayer(320, 8, 1280, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 8, enable_nested_tensor=False)
        self.scores = nn.Linear(320, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return ten scores for each image."""
        found: Tensor = self.scores(self.layers(self.pixels(images.flatten(1).unsqueeze(-1))).mean(1))
        return found


def small() -> nn.Module:
    """Return a net with two convolutions, like the experiment `digits`."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


BODIES = {"transformer": Transformer, "small": small}
STEPS = {"transformer": (10, 50), "small": (40, 130)}
"""Warm-up steps and timed steps: less than an epoch in total, so no validation is included."""
