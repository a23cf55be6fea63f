"""Predict the next character, or token, of a reference manual's lines with a small transformer."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from trainer.settings.ledger import configured
from trainer.training.tasks.sequences import BYTES, SequenceModel, SequenceSettings


class Settings(SequenceSettings):
    """9,172 training, 1,146 validation, 1,147 test lines; 41 bytes each on average."""

    dataset = "topics"
    max_epochs = 2
    batch_size = 64
    learning_rate = 3e-3
    schedule = "cosine"
    warmup_steps = 50
    clip_norm = 1.0

    width: PositiveInt = 64
    """Dimension of the embeddings."""
    heads: PositiveInt = 4
    """Attention heads; `width` must be a multiple."""
    layers: PositiveInt = 2
    """Transformer layers."""


@configured
class Net(SequenceModel):
    """Embeddings of bytes or tokens and of positions, causal transformer layers, one linear layer."""

    def __init__(self, *, width: int, heads: int, layers: int, context: int, vocabulary: int | None) -> None:
        """Create the layers."""
        super().__init__()
        size = vocabulary or BYTES
        self.bytes = nn.Embedding(size, width)
        self.places = nn.Embedding(context, width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.scores = nn.Linear(width, size)

    def forward(self, text: Tensor) -> Tensor:
        """Return scores of the next byte or token at each position: `[batch, time]` to `[batch, time, vocabulary]`."""
        time = text.shape[1]
        embedded = self.bytes(text) + self.places(torch.arange(time, device=text.device))
        later = torch.ones(time, time, dtype=torch.bool, device=text.device).triu(diagonal=1)
        scores: Tensor = self.scores(self.layers(embedded, mask=later, is_causal=True))
        return scores
