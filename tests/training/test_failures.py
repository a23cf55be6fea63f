"""Attribution of exceptions: faults of nets, metrics and labels are named, and are never reported as bugs of the package."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.small_training import CLASSIFIER, REGRESSOR, Small
from trainer.base.errors import DatasetError, ExperimentError, ExperimentFailedError, NotFiniteError, RepriseError
from trainer.data.files import FolderFiles
from trainer.data.reader import TableField, TableReader
from trainer.training import failures, unused_settings
from trainer.training.failures import attributed, hide_missing_compiler, own_failure
from trainer.training.readers import Pick
from trainer.training.readers.tables import TableRows

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch
FORWARD = "return self.layers(x)"
MADE = "self.layers = nn.Linear(4, 2)"


def net_method(code: str) -> tuple[str, str]:
    return "    def forward", f"    {code}\n\n    def forward"


def custom_metric(compute: str, update: str = "pass") -> tuple[str, str]:
    own = (
        "class Mine(Metric):\n"
        f"    def update(self, predicted, wanted):\n        {update}\n"
        f"    def compute(self):\n        {compute}\n\n"
        "class Net"
    )
    code = "    def make_metrics(self):\n        return MetricCollection({'mine': Mine()})\n\n    def forward"
    return "class Net", f"from torchmetrics import Metric, MetricCollection\n\n{own}", "    def forward", code  # type: ignore[return-value]


CASES = {
    # the net
    "no parameters": (MADE, "self.layers = lambda x: x[:, :2]", ExperimentError, "Net has no parameters"),
    "all frozen": (MADE, f"{MADE}.requires_grad_(False)", ExperimentError, "requires_grad is False for all"),
    "complex": (
        MADE,
        f"{MADE}\n        self.w = nn.Parameter(torch.randn(2, dtype=torch.complex64))",
        ExperimentError,
        "parameter w is complex64; adamw supports real parameters only",
    ),
    "meta": (
        MADE,
        "self.layers = nn.Linear(4, 2, device='meta')",
        ExperimentError,
        "parameter layers.weight of Net is on the device meta",
    ),
    "sparse": (
        MADE,
        f"{MADE}\n        self.e = nn.Embedding(3, 2, sparse=True)",
        ExperimentError,
        "e (Embedding) produces sparse gradients",
    ),
    # the output of forward
    "integers": (FORWARD, f"{FORWARD}.long()", ExperimentError, "Net.forward returns int64"),
    "detached": (FORWARD, f"{FORWARD}.detach()", ExperimentError, "the loss of Net has no gradient"),
    "tuple": (FORWARD, f"{FORWARD}, x", ExperimentError, "Net.forward returns a tuple"),
    "dict": (FORWARD, "return {'x': self.layers(x)}", ExperimentError, "Net.forward returns a dict"),
    "None": (FORWARD, "self.layers(x)", ExperimentError, "Net.forward returns None"),
    # the loss
    "loss of each": (
        *net_method("def make_loss(self): return nn.CrossEntropyLoss(reduction='none')"),
        ExperimentError,
        "float32 [8]",
    ),
    "loss None": (
        *net_method("def make_loss(self): return lambda *_: None"),
        ExperimentError,
        "the loss of Net is None",
    ),
    "no loss": (
        *net_method("def make_loss(self): pass"),
        ExperimentError,
        "Net.make_loss returns None; expected a function",
    ),
    "metrics of a dict": (
        *net_method("def make_metrics(self): return {}"),
        ExperimentError,
        "Net.make_metrics returns a dict; expected a MetricCollection",
    ),
    # parameters that no optimizer has
    "layers in a list": (
        MADE,
        "self.known = nn.Linear(4, 2); self.layers = lambda x: self.hidden[0](self.known(x)); self.hidden = [nn.Linear(2, 2)]",
        ExperimentError,
        "Net.forward uses a parameter, float32 [2, 2], that the optimizer does not have",
    ),
    "a layer made in forward": (
        FORWARD,
        "self.more = nn.Linear(2, 2); return self.more(self.layers(x))",
        ExperimentError,
        "Net.forward uses a parameter, float32 [2, 2], that the optimizer does not have",
    ),
    "half": (MADE, f"{MADE}.half()", DatasetError, "the layers of Net take float16"),
    # hooks and methods
    "hook": (
        *net_method("def on_train_start(self): raise ValueError('mine')"),
        ExperimentFailedError,
        "ValueError: mine",
    ),
    "split_batch": (
        *net_method("def split_batch(self, batch): return batch['x']"),
        ExperimentError,
        "Net.split_batch returns a Tensor; expected two tensors",
    ),
    "optimizer": (*net_method("def configure_optimizers(self): return 3"), ExperimentFailedError, "while training Net"),
    # exceptions
    "own": (FORWARD, "raise type('Odd', (BaseException,), {})(3)", ExperimentFailedError, "raised Odd: 3"),
    "unprintable": (
        FORWARD,
        "raise type('Odd', (Exception,), {'__str__': lambda _: 1 / 0})()",
        ExperimentFailedError,
        "the experiment raised Odd",
    ),
    "exit": (FORWARD, "raise SystemExit(3)", ExperimentFailedError, "raised SystemExit: 3"),
    "interrupt": (FORWARD, "raise KeyboardInterrupt", ExperimentFailedError, "raised KeyboardInterrupt"),
    "recursion": (FORWARD, "return self.forward(x)", ExperimentFailedError, "raised RecursionError"),
    "memory": (FORWARD, "raise MemoryError", ExperimentFailedError, "raised MemoryError"),
    "shapes": (FORWARD, "return self.layers(x[:, :3])", ExperimentFailedError, "small.py:"),
    "name too long": (FORWARD, "open('x' * 300)", ExperimentFailedError, "File name too long"),
}


@pytest.mark.parametrize("name", CASES)
def test_an_error_in_the_net_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after, kind, message = CASES[name]
    error = Small(place=tmp_path, code=CLASSIFIER.replace(before, after)).failed(monkeypatch)
    assert type(error) is kind, repr(error)
    assert isinstance(error, RepriseError)
    assert message in error.message
    assert "bug in Reprise" not in f"{error.message} {error.hint}"


METRICS = {
    "vector": (
        "return torch.ones(3)",
        "pass",
        ExperimentError,
        "metric val_mine (Mine) returns float32 [3]; expected one number",
    ),
    "text": ("return 'good'", "pass", ExperimentError, "metric val_mine (Mine) returns str"),
    "raises": ("raise ValueError('mine')", "pass", ExperimentFailedError, "the experiment raised ValueError: mine"),
    "takes": ("return torch.ones(())", "predicted @ wanted", ExperimentFailedError, "small.py:"),
}


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_that_is_not_a_number_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, update, kind, message = METRICS[name]
    first, one, second, two = custom_metric(compute, update)  # type: ignore[misc]
    code = CLASSIFIER.replace(second, two).replace(first, one, 1)
    small = Small(place=tmp_path, code=code)
    error = small.failed(monkeypatch)
    assert type(error) is kind, repr(error)
    assert message in str(error)
    assert kind is not ExperimentError or not small.messages, "it was found before the first step"


def test_a_torchmetrics_error_names_the_values_that_were_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = CLASSIFIER.replace(
        *net_method(
            "def make_metrics(self):\n        from torchmetrics import MetricCollection\n"
            "        from torchmetrics.classification import BinaryAccuracy\n"
            "        return MetricCollection({'mine': BinaryAccuracy()})"
        )
    )
    error = Small(place=tmp_path, code=code).failed(monkeypatch)
    assert type(error) is ExperimentFailedError, repr(error)
    assert "torchmetrics raised" in error.message
    assert "the metrics of val, given float32 [2, 2] and int64 [2]" in error.message


def test_labels_of_shape_n_by_1_are_reported_instead_of_the_net(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = Small(place=tmp_path, y=(np.arange(40) % 2)[:, None]).failed(monkeypatch)
    assert isinstance(error, DatasetError)
    assert error.message == "labels are int64 [2, 1]; expected int64 [batch], a class for each sample"
    assert "labels.reshape(-1)" in str(error.hint)


def test_targets_of_shape_n_by_1_are_reported_with_the_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = Small(place=tmp_path, code=REGRESSOR, y=np.ones((40, 1), dtype=np.float32)).failed(monkeypatch)
    assert isinstance(error, ExperimentError)
    assert error.message.startswith("Net.forward returns float32 [2]; the targets are float32 [2, 1]")


def test_an_exception_of_the_package_is_not_attributed_to_the_experiment(tmp_path: Path) -> None:
    assert own_failure(KeyError("x"), file=tmp_path / "small.py") is None
    assert attributed(KeyError("x"), file=tmp_path / "small.py", root=tmp_path, net="Net") is None


def test_an_exception_in_another_file_of_the_experiment_is_attributed_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "helping_here.py").write_text("def broken(x):\n    return x[3, 3, 3]\n")
    code = CLASSIFIER.replace(MADE, f"{MADE}\n        from helping_here import broken\n        self.hook = broken")
    code = code.replace(FORWARD, "return self.hook(x)")
    error = Small(place=tmp_path, code=code).failed(monkeypatch)
    assert "helping_here.py:2: the experiment raised IndexError" in str(error)


NORMED = CLASSIFIER.replace(MADE, "self.layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))")


def test_a_last_batch_of_one_sample_with_batch_norm_is_rejected_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Small(place=tmp_path, code=NORMED, splits={"train": (0, 25), "val": (25, 34), "test": (34, 40)})
    error = small.failed(monkeypatch)
    assert isinstance(error, ExperimentError)
    assert error.message == (
        "the last batch of train has 1 sample (25 samples, batch size 8); layers.1 (BatchNorm1d) needs more than 1"
    )
    assert error.hint == "--batch-size 7"
    small.train(monkeypatch, "--batch-size", "7")


def test_a_batch_norm_over_images_accepts_a_batch_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = NORMED.replace("nn.BatchNorm1d(4)", "nn.Unflatten(1, (2, 2)), nn.BatchNorm1d(2), nn.Flatten()")
    splits = {"train": (0, 25), "val": (25, 34), "test": (34, 40)}
    assert Small(place=tmp_path, code=code, splits=splits).train(monkeypatch).steps == 4


READER = """
from trainer.training.readers import Samples

class Mine(Samples):
    def __init__(self, of):
        self.of = of
    def __len__(self):
        return len(self.of)
    @property
    def layout(self):
        return self.of.layout
    def batch(self, picks):
        BODY
        return self.of.batch(picks)

class Net"""


def with_reader(body: str) -> str:
    code = CLASSIFIER.replace("\nclass Net", READER.replace("BODY", body), 1)
    return code.replace(
        *net_method("def samples(self, declared, files): return Mine(super().samples(declared, files))")
    )


@pytest.mark.parametrize("workers", ["0", "1"])
def test_an_exception_in_the_experiments_reader_is_attributed_in_a_worker_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    code = with_reader("if picks[0].epoch == 0 and len(picks) == 8: raise LookupError('mine')")
    error = Small(place=tmp_path, code=code).failed(monkeypatch, "--workers", workers)
    assert isinstance(error, ExperimentFailedError)
    assert error.message.endswith("the experiment raised LookupError: mine")


@pytest.mark.parametrize(
    ("body", "message"),
    [("return None", "returns a batch as NoneType"), ("return {'x': [1]}", "returns the field 'x' of a batch as list")],
)
def test_a_reader_that_returns_no_batch_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    error = Small(place=tmp_path, code=with_reader(body)).failed(monkeypatch)
    assert isinstance(error, ExperimentError)
    assert error.message == f"Mine.batch {message}; expected a dict of tensors by field"


def test_a_missing_compiler_is_one_sentence_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = "from torch._inductor.exc import InvalidCxxCompiler\n        raise InvalidCxxCompiler"
    error = Small(place=tmp_path, code=CLASSIFIER.replace(FORWARD, raised)).failed(monkeypatch)
    assert isinstance(error, ExperimentFailedError)
    assert error.message.startswith(
        "torch.compile needs a compiler (C++ on a CPU, C on a GPU), which this environment does not have: small.py:"
    )
    assert 'backend="aot_eager"' in str(error.hint)


def test_a_nan_loss_from_nan_in_the_batch_names_the_field_and_not_the_learning_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = with_reader("found = self.of.batch(picks); found['x'][0, 1] = torch.nan; return found")
    error = Small(place=tmp_path, code=code).failed(monkeypatch)
    assert isinstance(error, NotFiniteError)
    assert error.message == (
        "the training loss of step 1 is nan; no earlier loss was finite, "
        "and 'x' has NaN or infinity in 1 of 8 samples of this batch"
    )
    assert "learning" not in str(error.hint)


@pytest.mark.parametrize(
    ("forward", "kind"),
    [
        ("z = self.layers(x); return z / z.std(0)", NotFiniteError),
        ("return nn.functional.batch_norm(self.layers(x), None, None, training=True)", ExperimentFailedError),
    ],
)
@pytest.mark.filterwarnings("ignore:std")
def test_nan_statistics_of_a_last_batch_of_one_name_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forward: str, kind: type[RepriseError]
) -> None:
    splits = {"train": (0, 25), "val": (25, 33), "test": (33, 40)}
    error = Small(place=tmp_path, code=CLASSIFIER.replace(FORWARD, forward), splits=splits).failed(monkeypatch)
    assert isinstance(error, kind)
    assert "has 1 sample" in error.message
    assert "batch-size" in f"{error.message} {error.hint}"
    assert "learning" not in str(error.hint)


def test_a_nan_target_gets_no_hint_to_replace_it_in_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = np.full(40, np.nan, dtype=np.float32)
    error = Small(place=tmp_path, code=REGRESSOR, y=targets, record="a record").failed(monkeypatch)
    assert isinstance(error, DatasetError)
    assert "`make_loss`" in str(error.hint)


def test_an_infinite_loss_from_a_large_number_names_its_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = np.full(40, 1e30, dtype=np.float32)
    error = Small(place=tmp_path, code=REGRESSOR, y=targets, record="a record").failed(monkeypatch)
    assert isinstance(error, NotFiniteError)
    assert "field 'y' of the dataset holds 1e+30, whose square float32 cannot hold" in str(error.hint)


def test_a_net_that_returns_nan_from_the_start_gets_a_hint_to_check_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = CLASSIFIER.replace(FORWARD, "return self.layers(x) * torch.nan")
    error = Small(place=tmp_path, code=code).failed(monkeypatch)
    assert isinstance(error, NotFiniteError)
    assert "reprise check" in str(error.hint)
    assert "learning" not in str(error.hint)


@pytest.mark.parametrize("raised", ["SystemExit(3)", "type('Odd', (BaseException,), {})()"])
def test_an_exception_at_import_is_attributed_to_the_experiment(tmp_path: Path, raised: str) -> None:
    with pytest.raises(ExperimentFailedError, match=r"small.py:\d+: the experiment raised"):
        Small(place=tmp_path, code=f"raise {raised}").loaded()


def test_a_pyarrow_error_in_a_reader_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1.0] * 100}), file, compression="NONE", use_dictionary=False)
    body = bytearray(file.read_bytes())
    body[4:40] = b"\xff" * 36
    file.write_bytes(body)
    reader = TableReader(kind="table", files=("t.parquet",), fields={"x": TableField(column="a")})
    with pytest.raises(DatasetError, match=r"t\.parquet cannot be decoded"):
        TableRows(reader, FolderFiles(tmp_path)).batch([Pick(index=0, epoch=0, run=0)])


@pytest.mark.parametrize(("message", "shown"), [("No working C++ compiler found", 0), ("something else", 1)])
def test_torch_logs_nothing_about_a_missing_compiler(
    caplog: pytest.LogCaptureFixture, message: str, shown: int
) -> None:
    hide_missing_compiler()
    logger = logging.getLogger("torch._functorch._aot_autograd.graph_compile")
    logger.warning("failed early", exc_info=RuntimeError(message))
    assert len(caplog.records) == shown


def test_names_of_modules_in_tables_exist() -> None:
    folder = failures.PACKAGE / "training"
    parts = {*failures._DOING, *failures._TAKES_VALUES}
    assert [part for part in parts if not (folder / part).is_dir() and not (folder / f"{part}.py").is_file()] == []
    assert [name for name in unused_settings._NOT_USERS if not (folder / name).is_file()] == []
