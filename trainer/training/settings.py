"""Settings of every training run and of each kind of task. Does not import torch, because the launcher imports this module."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from trainer.data.references import ROLES
from trainer.settings.fields import LaunchSettings, Role

_TRACKING: Final = re.compile(r"off|on|databricks(://[\w-]+)?|[a-z+]+://[^/@?]*(/[^@?]*)?")


def require_tracking_address(text: str) -> str:
    """Return the setting `mlflow` unchanged.

    Raise `ValueError` for another word, and for an address with a user or a password, which the record would contain.
    """
    if not _TRACKING.fullmatch(text):
        raise ValueError("off, on, or an address such as http://host:5000, without user or password")
    return text


def table_of(value: Any) -> Any:
    """Return a text such as `a=b,c=d` as a table; any other value unchanged.

    Raise `ValueError` for a pair without `=`, or for a name that occurs twice.

    >>> table_of("backbone=body,fc=head"), table_of("=net"), table_of({"a": "b"})
    ({'backbone': 'body', 'fc': 'head'}, {'': 'net'}, {'a': 'b'})
    """
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",")]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError("pairs such as OLD=NEW,OLD=NEW")
    names = [old.strip() for old, _, _ in pairs]
    if len({*names}) < len(names):
        raise ValueError("each name once before =")
    return {old.strip(): new.strip() for old, _, new in pairs}


def roles_of(value: Any) -> Any:
    """Return the datasets of train, val and test as a table with all three, or as a text if all are the same dataset.

    Any value of another form is returned unchanged. Raise `ValueError` if no dataset is named for train.

    >>> roles_of("digits"), roles_of("train=a,test=b"), roles_of({"train": "a"})
    ('digits', {'train': 'a', 'val': 'a', 'test': 'b'}, 'a')
    """
    table = table_of(value) if isinstance(value, str) and "=" in value else value
    if not isinstance(table, dict) or not {*table} <= {*ROLES}:
        return table
    if "train" not in table:
        raise ValueError("a dataset for train, such as train=a,test=b")
    names = {role: table.get(role, table["train"]) for role in ROLES}
    return table["train"] if all(name == table["train"] for name in names.values()) else names


def words_of(value: Any) -> Any:
    """Return a text such as `a,b` as a list; any other value unchanged.

    >>> words_of("missing, unexpected"), words_of(["missing"])
    (['missing', 'unexpected'], ['missing'])
    """
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else value


class ScriptSettings(LaunchSettings):
    """Settings of a script, which has its own training loop."""

    arguments: list[str] = []
    """Words after `--`. `{run}` stands for the folder of the script's outputs, `{dataset:NAME}` for a dataset's folder."""
    results: str | None = None
    """Output file with the results (default: results.json, metrics.json, results.csv, metrics.csv, metrics.jsonl or TensorBoard's)."""
    tolerances: dict[str, NonNegativeFloat] = {}
    """Largest absolute difference of each result that is within tolerance, for example `{loss = 1e-6}`."""
    exclude: list[str] = []
    """Patterns of outputs that are kept but not compared, for example `*.log` for files that contain the time."""

    publish: Annotated[bool, Role.EXECUTION] = True
    """Publish the run to the store when it ends."""


class FitSettings(LaunchSettings):
    """Settings of every training run, also of a plain LightningModule."""

    seed: NonNegativeInt = 0
    """Seed of all randomness: initial weights, order of the data, dropout."""
    max_epochs: PositiveInt = 10
    """Passes over the training split."""
    max_steps: PositiveInt | None = None
    """Stop after this many optimizer steps, even before `max_epochs`."""
    accumulate: PositiveInt = 1
    """Batches per optimizer step; each gradient counts 1/`accumulate`, also in a last step of an epoch with fewer batches."""
    clip_norm: PositiveFloat | None = None
    """Maximum gradient norm; larger gradients are scaled down."""
    precision: Literal["32-true", "64-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Floating-point precision; `*-mixed` keeps weights in float32."""
    compile: bool = False
    """Compile the net with torch.compile; needs a C++ compiler in the environment. Changes the bits of a result."""
    monitor: str | None = None
    """Validation metric that selects the weights to keep and test, for example `val_loss`; by default the last weights."""
    monitor_mode: Literal["min", "max"] = "min"
    """Whether a lower or a higher value of `monitor` is better; required if `monitor` is a score, such as `val_accuracy`."""
    patience: PositiveInt | None = None
    """Stop training after this many epochs without an improvement of `monitor`."""
    min_delta: NonNegativeFloat = 0.0
    """Smallest change of `monitor` that counts as an improvement for `patience`."""
    init_map: Annotated[dict[str, str], BeforeValidator(table_of)] = {}
    """Beginnings of tensor names in `init_from`, and their replacements, for example `backbone=body,fc=head`."""
    init_allow: Annotated[list[Literal["missing", "unexpected", "reshaped"]], BeforeValidator(words_of)] = []
    """Allowed differences between the tensors of `init_from` and those of the net, for example `missing,reshaped`."""

    init_from: Annotated[str | None, Role.EXECUTION] = None
    """Run or dataset of weights whose tensors replace the net's initial weights: ID or start of an ID, or `resnet18@1`."""

    terminate_on_nan: Annotated[bool, Role.EXECUTION] = True
    """Fail the run at the first training or validation loss that is not finite. A test loss that is not finite always fails the run."""
    checkpoint_every: Annotated[PositiveInt | None, Role.EXECUTION] = None
    """Steps between checkpoints, in addition to one after each epoch."""
    log_every: Annotated[PositiveInt, Role.EXECUTION] = 10
    """Steps between two values of the training loss in metrics.jsonl."""
    progress: Annotated[bool, Role.EXECUTION] = True
    """Show progress: one line for each epoch, and a bar on a terminal."""
    tensorboard: Annotated[bool, Role.EXECUTION] = True
    """Also write the metrics for TensorBoard."""
    trace: Annotated[Literal["on", "full", "off"], Role.EXECUTION] = "on"
    """Write a fingerprint of every weight at each step, to find where two runs diverge; `full`: also of every gradient."""
    wandb: Annotated[Literal["off", "offline", "online"], Role.EXECUTION] = "off"
    """Also write the metrics for Weights & Biases; `offline` keeps them in the run folder."""
    wandb_project: Annotated[str, Role.EXECUTION] = "reprise"
    """The Weights & Biases project."""
    mlflow: Annotated[str, AfterValidator(require_tracking_address), Role.EXECUTION] = "off"
    """Also write the metrics for MLflow: `on` (the server in MLFLOW_TRACKING_URI), or an address such as `http://host:5000`."""
    mlflow_experiment: Annotated[str, Role.EXECUTION] = "reprise"
    """The MLflow experiment."""
    publish: Annotated[bool, Role.EXECUTION] = True
    """Publish the run to the store when it ends."""
    publish_every: Annotated[PositiveFloat | None, Role.EXECUTION] = None
    """Minutes between publications of a checkpoint, from which another machine can resume; by default only at the end of the run."""


class SampleSettings(FitSettings):
    """Settings of a training run whose batches are read from a dataset."""

    dataset: Annotated[str | dict[Literal["train", "val", "test"], str], BeforeValidator(roles_of)]
    """Name of the dataset, declared in `datasets/NAME.toml`. Splits can come from several datasets: `train=a,test=b`."""
    batch_size: PositiveInt = 32
    """Number of samples in a batch, in total over all devices."""
    shuffle_window: PositiveInt | None = None
    """Shuffle blocks of neighbors, and move each sample by less than N, for streamed small files; by default, shuffle all samples."""

    workers: Annotated[NonNegativeInt, Role.EXECUTION] = 0
    """Worker processes that load data; 0 loads data in the training process."""


class TrainingSettings(SampleSettings):
    """Settings of every experiment with a task."""

    optimizer: Literal["adamw", "adam", "nadam", "radam", "rmsprop", "adagrad", "sgd"] = "adamw"
    """Optimization algorithm."""
    learning_rate: PositiveFloat = 1e-3
    """Learning rate after the warm-up."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of `sgd`."""
    nesterov: bool = False
    """Use Nesterov momentum in `sgd`."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay rate of the first-moment estimate in the Adam optimizers."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay rate of the second-moment estimate in the Adam optimizers and `rmsprop`."""
    epsilon: PositiveFloat = 1e-8
    """Term added to the denominator for numerical stability, in all optimizers but `sgd`."""
    frozen: list[str] = []
    """Patterns of the names of parameters that are not trained, for example `body.*`."""
    learning_rates: dict[str, PositiveFloat] = {}
    """Learning rates of parameters by patterns of their names, for example `{"body.*" = 1e-5}`; all others have `learning_rate`."""
    schedule: Literal["constant", "cosine", "linear", "step", "one_cycle"] = "constant"
    """Schedule of the learning rate after the warm-up; `one_cycle` has its own warm-up."""
    warmup_steps: NonNegativeInt = 0
    """Steps of linear warm-up to the learning rate."""
    final_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Final value of `cosine` and `linear`, as a fraction of the learning rate."""
    step_size: PositiveInt = 1000
    """Steps between two decays of the schedule `step`; the first is counted from the end of the warm-up."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor by which the schedule `step` multiplies the learning rate."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, for example 0.999. The average is validated, tested and saved."""


class ClassificationSettings(TrainingSettings):
    """Settings of a classification."""

    classes: Annotated[int, Field(ge=2)]
    """Number of classes; labels are 0 to `classes` - 1."""
    input_field: str = "image"
    """Field of the dataset that is the net's input."""
    target_field: str = "label"
    """Field of the dataset that holds the class."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Label smoothing: fraction of the target probability spread over all classes."""
    class_weights: Literal["none", "balanced"] | Annotated[tuple[PositiveFloat, ...], Field(min_length=2)] = "none"
    """Weight of each class in the loss: `none`, `balanced` (inverse to the class's samples in train), or a list of one number per class."""


class SegmentationSettings(ClassificationSettings):
    """Settings of a segmentation: a class for each pixel."""

    target_field: str = "mask"
    """Field of the dataset that holds the class of each pixel."""
    ignore_index: int | None = None
    """Label of pixels that count neither in the loss nor in the metrics, for example 255."""


class MultiLabelSettings(TrainingSettings):
    """Settings of a multi-label classification: any number of labels for each sample."""

    labels: PositiveInt
    """Number of labels; a target is 1 for each label that a sample has, otherwise 0."""
    input_field: str = "image"
    """Field of the dataset that is the net's input."""
    target_field: str = "labels"
    """Field of the dataset that holds 0 or 1 for each label."""


class MultiTaskSettings(TrainingSettings):
    """Settings of a net with several outputs; the net names the target field of each."""

    input_field: str = "image"
    """Field of the dataset that is the net's input, unless the net declares `input_fields`."""


class RegressionSettings(TrainingSettings):
    """Settings of a regression."""

    input_field: str = "features"
    """Field of the dataset that is the net's input."""
    target_field: str = "target"
    """Field of the dataset that holds the number."""


class VerificationSettings(TrainingSettings):
    """Settings of a verification: whether two samples have the same class."""

    input_field: str = "image"
    """Field of the dataset that is the net's input."""
    target_field: str = "label"
    """Field of the dataset that holds the class."""
    margin: PositiveFloat = 1.0
    """Margin between pairs of different classes, as a squared distance."""


class SequenceSettings(TrainingSettings):
    """Settings of a sequence model that predicts the next byte or token of a text."""

    input_field: str = "text"
    """Field of the dataset that holds the text: windows or lines."""
    vocabulary: PositiveInt | None = None
    """Number of tokens, at least as many as the dataset's tokenizer has; `none`: the text is read as bytes."""
    context: PositiveInt = 128
    """Maximum number of bytes or tokens in the input; longer lines of bytes are cut, longer lines of tokens are rejected."""
