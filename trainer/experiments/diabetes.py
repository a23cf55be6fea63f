"""Predict the progression of diabetes in a year from ten measurements of a patient with a small regression net."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor, nn

from trainer.settings.ledger import configured
from trainer.training.tasks.regression import RegressionSettings, Regressor


class Settings(RegressionSettings):
    """310 training, 66 validation, 66 test patients."""

    dataset = "diabetes"
    max_epochs = 30
    learning_rate = 1e-2
    weight_decay = 1e-2
    monitor = "val_loss"

    input_shape: list[PositiveInt] = [10]
    """Number of measurements of a patient."""
    width: PositiveInt = 16
    """Units of the hidden layer."""


@configured
class Net(Regressor):
    """Batch normalization and one hidden layer; the output is scaled to the range of the targets."""

    def __init__(self, *, input_shape: list[int], width: int) -> None:
        """Create the layers."""
        super().__init__()
        (measurements,) = input_shape
        self.layers = nn.Sequential(
            nn.BatchNorm1d(measurements), nn.Linear(measurements, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return a prediction for each patient: `[batch, measurements]` to `[batch]`; targets lie between 25 and 346."""
        numbers: Tensor = self.layers(features).squeeze(-1)
        return 150.0 + 75.0 * numbers
