"""The settings that every training has, and each kind of task: what it learns from, how it steps, what it shows.

Knows each setting's type, bounds and default. Refuses to know torch: the launcher's side may read this.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from trainer.settings.fields import LaunchSettings, Role


class TrainingSettings(LaunchSettings):
    """What every experiment can be given."""

    dataset: str
    """The dataset's name: a file of `datasets/`."""
    seed: NonNegativeInt = 0
    """Where all randomness begins: the initial weights, the order of the data, dropout."""
    max_epochs: PositiveInt = 10
    """Passes over the training split."""
    max_steps: PositiveInt | None = None
    """Optimizer steps after which to end, if earlier than `max_epochs`."""
    batch_size: PositiveInt = 32
    """Samples in a step, all devices together."""
    accumulate: PositiveInt = 1
    """Batches whose gradients are summed up before the optimizer steps."""
    optimizer: Literal["adamw", "adam", "nadam", "radam", "rmsprop", "adagrad", "sgd"] = "adamw"
    """What turns gradients into steps."""
    learning_rate: PositiveFloat = 1e-3
    """The optimizer's step size, after the warm-up."""
    weight_decay: NonNegativeFloat = 0.0
    """How strongly weights are pulled to zero."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """What part of the last step `sgd` carries on."""
    nesterov: bool = False
    """Have `sgd` look ahead along its momentum."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """How much of the gradients' average the Adams carry on."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """How much of the squared gradients' average the Adams and `rmsprop` carry on."""
    epsilon: PositiveFloat = 1e-8
    """What is added to a root before it divides: all optimizers but `sgd`."""
    schedule: Literal["constant", "cosine", "linear", "step", "one_cycle"] = "constant"
    """How the learning rate goes on after the warm-up; `one_cycle` has a warm-up of its own."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which the learning rate rises to its full size."""
    final_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """What part of the learning rate `cosine` and `linear` end at."""
    step_size: PositiveInt = 1000
    """Steps between two drops of the schedule `step`."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """What part of the learning rate each of the `step` leaves."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Validate, test and keep an exponential moving average of the weights, of which each step leaves this part, as 0.999."""
    clip_norm: PositiveFloat | None = None
    """The largest gradient norm that is not scaled down."""
    precision: Literal["32-true", "64-true", "bf16-mixed", "16-mixed"] = "32-true"
    """The number format of weights and of products."""
    monitor: str | None = None
    """A validation metric, as `val_loss`: the weights that were best by it are kept and tested, instead of the last."""
    monitor_mode: Literal["min", "max"] = "min"
    """Which value of `monitor` is the best."""
    patience: PositiveInt | None = None
    """End the training when `monitor` has not become better for so many epochs."""
    min_delta: NonNegativeFloat = 0.0
    """By how much `monitor` must be better for `patience` to start counting again."""

    terminate_on_nan: Annotated[bool, Role.EXECUTION] = True
    """End the run, as failed, at the step whose training loss is no finite number; a test loss that is none fails the run in any case."""
    workers: Annotated[NonNegativeInt, Role.EXECUTION] = 0
    """Processes that read data ahead; 0 reads it in the training process."""
    checkpoint_every: Annotated[PositiveInt | None, Role.EXECUTION] = None
    """Steps between checkpoints, besides one after each epoch."""
    log_every: Annotated[PositiveInt, Role.EXECUTION] = 10
    """Steps between two lines of the training loss in metrics.jsonl."""
    progress: Annotated[bool, Role.EXECUTION] = True
    """Show progress: a bar on a terminal, a line an epoch elsewhere."""
    tensorboard: Annotated[bool, Role.EXECUTION] = True
    """Write the metrics for TensorBoard too."""
    trace: Annotated[Literal["on", "full", "off"], Role.EXECUTION] = "on"
    """Write a fingerprint of every weight at each step, by which two runs are compared; `full`: of every gradient too."""
    wandb: Annotated[Literal["off", "offline", "online"], Role.EXECUTION] = "off"
    """Write the metrics for Weights & Biases too; `offline` keeps them in the run folder."""
    wandb_project: Annotated[str, Role.EXECUTION] = "reprise"
    """The Weights & Biases project."""
    publish: Annotated[bool, Role.EXECUTION] = True
    """Publish the run to the store when it ends."""


class ClassificationSettings(TrainingSettings):
    """What a classification can be given."""

    classes: Annotated[int, Field(ge=2)]
    """How many classes there are; labels are 0 and up."""
    input_field: str = "image"
    """The dataset's field that the net is given."""
    target_field: str = "label"
    """The dataset's field that holds the class."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """What part of the target's weight is spread over all classes."""


class RegressionSettings(TrainingSettings):
    """What a regression can be given."""

    input_field: str = "features"
    """The dataset's field that the net is given."""
    target_field: str = "target"
    """The dataset's field that holds the number."""


class VerificationSettings(TrainingSettings):
    """What a verification can be given: whether two samples are of one class."""

    input_field: str = "image"
    """The dataset's field that the net is given."""
    target_field: str = "label"
    """The dataset's field that holds the class."""
    margin: PositiveFloat = 1.0
    """How far pairs of two classes are pushed apart: a squared distance."""


class SequenceSettings(TrainingSettings):
    """What a sequence model can be given: a text's next byte, from those before."""

    input_field: str = "text"
    """The dataset's field that holds the text: windows, or lines."""
    context: PositiveInt = 128
    """Bytes that the net sees at most; longer lines are cut."""
