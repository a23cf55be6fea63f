"""A server returns the predictions of `reprise predict`, and for each wrong request a status, a message and a hint."""

from __future__ import annotations

import io
import json
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from PIL import Image

from tests.models.serving.running import running
from trainer.models.serving.limits import Limits

if TYPE_CHECKING:
    from pathlib import Path

    from tests.models.serving.running import Running, ServerResponse
    from trainer.models.packaged import PackagedModel

pytestmark = pytest.mark.torch
TOKEN = "token" * 4  # assembled, so that the file does not look like a secret
SAMPLES = np.random.default_rng(5).random((100, 1, 4, 4), dtype=np.float32)


def npy(values: Any) -> bytes:
    """Return the bytes of a .npy file with an array."""
    body = io.BytesIO()
    np.save(body, values)
    return body.getvalue()


def picture(kind: str, mode: str = "L") -> bytes:
    """Return the bytes of a picture file."""
    body = io.BytesIO()
    values = np.random.default_rng(1).integers(0, 255, (20, 30), dtype=np.uint8)
    Image.fromarray(values).convert(mode).save(body, kind)
    return body.getvalue()


def tensor(values: Any, **changes: Any) -> dict[str, Any]:
    """Return an inference request of the protocol."""
    flat = values.reshape(-1).tolist()
    return {"inputs": [{"name": "image", "shape": [*values.shape], "datatype": "FP32", "data": flat, **changes}]}


def of_predict(model: PackagedModel, file: Path) -> list[dict[str, Any]]:
    """Return the predictions of `reprise predict` for a file."""
    return [each for batch in model.reader.of_file(file) for each in model.predictions(batch)]


def reason(response: ServerResponse, status: int) -> str:
    """Require an error with a status and a hint, and return its message."""
    assert response.status == status, response.body
    assert set(response.json) == {"error", "hint"}
    assert response.json["hint"]
    return str(response.json["error"])


def test_arrays_get_the_predictions_of_predict(
    arrays: Running, models: dict[str, PackagedModel], tmp_path: Path
) -> None:
    (tmp_path / "new.npy").write_bytes(npy(SAMPLES))
    expected = of_predict(models["arrays"], tmp_path / "new.npy")
    of_file = arrays.post("/predict", npy(SAMPLES)).json
    assert of_file == {"package": models["arrays"].package.digest, "predictions": expected}
    assert arrays.post("/predict", {"inputs": {"image": SAMPLES.tolist()}}).json["predictions"] == expected
    found = arrays.post(arrays.infer, tensor(SAMPLES) | {"id": "a"}).json
    assert (found["model_name"], found["id"]) == (models["arrays"].package.name, "a")
    scores = next(each for each in found["outputs"] if each["name"] == "scores")
    assert scores["data"] == [score for each in expected for score in each["scores"].values()]


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "bmp"])
def test_a_picture_of_each_format_gets_the_prediction_of_predict(
    pictures: Running, models: dict[str, PackagedModel], tmp_path: Path, kind: str
) -> None:
    file = tmp_path / f"photo.{kind}"
    file.write_bytes(picture(kind))
    assert pictures.post("/predict", file.read_bytes(), content_type=f"image/{kind}").json["predictions"] == of_predict(
        models["pictures"], file
    )


def test_rows_and_csv_get_the_predictions_of_predict(
    table: Running, models: dict[str, PackagedModel], tmp_path: Path
) -> None:
    text = "height,width,color\n1.5,2,red\n0.25,-3e2,\n7,8,violet\n"
    (tmp_path / "new.csv").write_text(text)
    expected = of_predict(models["table"], tmp_path / "new.csv")
    rows = [
        {"height": 1.5, "width": 2, "color": "red"},
        {"height": 0.25, "width": -300, "color": None},
        {"height": "7", "width": 8, "color": "violet"},
    ]
    assert table.post("/predict", {"rows": rows}).json["predictions"] == expected
    assert table.post("/predict", text.encode(), content_type="text/csv").json["predictions"] == expected


def test_tensors_of_different_lengths_get_predictions_at_once(
    tensors: Running, models: dict[str, PackagedModel]
) -> None:
    requests = [[[number % 10] * length] for number in range(40) for length in (1, 2, 3)]
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda each: tensors.post("/predict", {"inputs": {"tokens": each}}).json, requests))
    expected = [models["tensors"].predictions({"tokens": torch.tensor(each)}) for each in requests]
    assert [each["predictions"] for each in found] == expected


def test_200_parallel_clients_get_the_responses_of_a_single_client(arrays: Running) -> None:
    alone = [arrays.post("/predict", npy(each[None])).json["predictions"] for each in SAMPLES[:50]]
    with ThreadPoolExecutor(200) as pool:
        found = list(pool.map(lambda at: arrays.post("/predict", npy(SAMPLES[at % 50][None])), range(400)))
    assert [each.status for each in found] == [200] * 400
    for number, each in enumerate(found):
        assert each.json["predictions"][0]["scores"] == pytest.approx(alone[number % 50][0]["scores"], abs=1e-6)
    sizes = arrays.get("/metrics").body.decode()
    assert 'reprise_batch_samples_bucket{le="1.0"}' in sizes


def test_without_waiting_200_parallel_clients_get_bit_for_bit_what_one_gets(models: dict[str, PackagedModel]) -> None:
    with running(models["arrays"], Limits(batch_wait=0)) as server, ThreadPoolExecutor(200) as pool:
        alone = [server.post("/predict", npy(each[None])).body for each in SAMPLES]
        assert len(set(alone)) == len(SAMPLES)
        found = list(pool.map(lambda at: server.post("/predict", npy(SAMPLES[at % 100][None])).body, range(600)))
        assert found == alone * 6


def test_an_array_is_the_tensor_of_a_net_with_one(tensors: Running, models: dict[str, PackagedModel]) -> None:
    values = np.arange(6).reshape(2, 3)
    found = tensors.post("/predict", npy(values)).json
    assert found["predictions"] == models["tensors"].predictions({"tokens": torch.from_numpy(values)})


def test_a_value_that_the_net_rejects_fails_its_own_request_only(tensors: Running) -> None:
    requests = [[[3]], [[99]]] * 20
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda each: tensors.post("/predict", {"inputs": {"tokens": each}}), requests))
    assert [each.status for each in found] == [200, 422] * 20
    assert "fails for these values: IndexError" in reason(found[1], 422)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b"{",
            "the request is not valid JSON: line 1, column 2: expected a key in double quotes, found the end",
        ),
        (
            b'{"inputs":\n  1 2}',
            "is not valid JSON: line 2, column 5: expected a comma or a closing bracket, found '2'",
        ),
        (b'{"inputs": "\xff"}', "is not valid JSON: line 1: the byte 0xff is not UTF-8"),
        (b"[1]", "is a JSON list; expected an object"),
        (b'{"inputs": {"image": NaN}}', "NaN is not a JSON number"),
        (b'{"inputs": {"image": [[1e999]]}}', "a number beyond 1.8e308"),
        (b'{"inputs": {"image": [[1e40]]}}', "beyond the largest float32"),
        (b'{"inputs": {"image": [["1"]]}}', "value 1 of input image is '1'; expected a number"),
        (b'{"inputs": {"image": [[true]]}}', "value 1 of input image is True; expected a number"),
        (b'{"inputs": {"image": [[1, 2], [3]]}}', "lists of different lengths on level 2"),
        (b'{"inputs": {"image": [[1, [2]]]}}', "lists and values on the same level"),
        (b'{"inputs": {"image": [[1, 2]]}}', "image is float32 [1, 2]; expected samples of image float32 [1, 4, 4]"),
        (b'{"inputs": {"image": []}}', "has no samples"),
        (b'{"inputs": {"image": 1}}', "is a number; expected lists"),
        (b'{"inputs": {"imag": [1]}}', "no input 'imag'"),
        (b'{"inputs": {}}', "the input image float32 [1, 4, 4] is missing"),
        (b'{"inputs": 1, "inputs": 2}', "given twice"),
        (b'{"rows": [{}]}', "the keys rows; expected"),
        (b"[" * 100_000, "too many nested brackets"),
        (b'{"inputs": {"image": ' + b"[" * 80 + b"]" * 80 + b"}}", "more than 64 levels"),
        (b'{"inputs": [' + b"," * 1_000_001, "expected at most 1,000,000"),
    ],
)
def test_wrong_json_is_422_with_what_was_expected(arrays: Running, body: bytes, message: str) -> None:
    assert message in reason(arrays.post("/predict", body[: 1 << 20], content_type="application/json"), 422)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datatype": "FP64"}, "the datatype 'FP64'; expected FP32"),
        ({"name": "x"}, "no input 'x'"),
        ({"shape": [1, 16]}, "the shape [1, 16]; expected [samples, ...]"),
        ({"shape": [2, 1, 4, 4]}, "data of the shape [16]; its shape is [2, 1, 4, 4]"),
        ({"shape": [-1, 1, 4, 4]}, "not a list of lengths"),
        ({"shape": [True, 1, 4, 4]}, "not a list of lengths"),
        ({"data": "AAAA"}, "is a string; expected lists"),
        ({"data": [None] * 16}, "value 1 of input image is None"),
        ({"binary": 64}, "unknown key 'binary'"),
    ],
)
def test_a_wrong_tensor_of_the_protocol_is_422(arrays: Running, change: dict[str, Any], message: str) -> None:
    assert message in reason(arrays.post(arrays.infer, tensor(SAMPLES[:1], **change)), 422)


def test_samples_without_a_value_are_422(tensors: Running) -> None:
    assert "input tokens has samples without a value" in reason(
        tensors.post("/predict", {"inputs": {"tokens": [[]]}}), 422
    )


def test_outputs_are_those_that_a_request_names(arrays: Running) -> None:
    found = arrays.post(arrays.infer, tensor(SAMPLES[:2]) | {"outputs": [{"name": "scores"}]}).json
    assert [(each["name"], each["shape"], each["datatype"]) for each in found["outputs"]] == [
        ("scores", [2, 3], "FP32")
    ]
    wrong = arrays.post(arrays.infer, tensor(SAMPLES[:2]) | {"outputs": [{"name": "score"}]})
    assert "no output 'score'" in reason(wrong, 422)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "has no body"),
        (b"\x93NUMPY", "its header is damaged"),
        (npy(np.zeros((2, 1, 4, 4))), "is float64 [2, 1, 4, 4]; expected samples of float32 [1, 4, 4]"),
        (npy(np.zeros((2, 5), dtype=np.float32)), "is float32 [2, 5]"),
        (npy(np.zeros((0, 1, 4, 4), dtype=np.float32)), "has no samples"),
        (npy(SAMPLES)[:-4], "expected 6,528 bytes by its header, found 6,524"),
        (npy(np.array([1], dtype=object)), "objects"),
    ],
)
def test_a_wrong_array_is_422(arrays: Running, body: bytes, message: str) -> None:
    found = reason(arrays.post("/predict", body), 422)
    assert message in found
    assert tempfile.gettempdir() not in found


def test_a_wrong_picture_and_a_wrong_table_are_422(pictures: Running, table: Running) -> None:
    wrong = reason(pictures.post("/predict", b"no picture", content_type="image/png"), 422)
    assert "the request" in wrong
    assert tempfile.gettempdir() not in wrong
    assert "no column 'width'" in reason(table.post("/predict", {"rows": [{"height": 1, "color": "red"}]}), 422)
    assert "row 1, column 'height'" in reason(
        table.post("/predict", {"rows": [{"height": [], "width": 1, "color": "red"}]}), 422
    )
    assert tempfile.gettempdir() not in reason(table.post("/predict", b"a,b\n1,2\n", content_type="text/csv"), 422)
    rows = [{"height": 1, "width": 1, "color": "red"}, {"height": "tall", "width": 1, "color": "red"}]
    tall = table.post("/predict", {"rows": rows})
    assert reason(tall, 422) == "the request, row 2, column 'height': expected a number such as 1234.5, found 'tall'"
    assert tall.json["hint"] == "write it as houses.csv has its numbers"
    cut = table.post("/predict", b'height,width,color\n1,2,red\n1,2,"red\n', content_type="text/csv")
    assert reason(cut, 422).startswith("the request, line 3: a quote")
    assert "houses.csv" in cut.json["hint"]
    assert "--" not in cut.json["hint"]
    assert "has no samples" in reason(table.post("/predict", {"rows": []}), 422)


def test_nan_is_accepted_in_floats_of_a_file_and_a_prediction_that_json_cannot_hold_is_422(arrays: Running) -> None:
    wrong = SAMPLES[:1].copy()
    wrong[0, 0, 0, 0] = np.nan
    assert "the prediction has a number that is not finite" in reason(arrays.post("/predict", npy(wrong)), 422)


def test_a_large_body_is_413_before_it_is_read(arrays: Running) -> None:
    assert "expected at most 1,048,576" in reason(arrays.post("/predict", bytes((1 << 20) + 1)), 413)
    with socket.create_connection(("127.0.0.1", arrays.port)) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 413 ")


def test_a_large_chunked_body_is_413(arrays: Running) -> None:
    with socket.create_connection(("127.0.0.1", arrays.port)) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        client.sendall((b"10000\r\n" + bytes(1 << 16) + b"\r\n") * 17)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 413 ")


def test_too_many_samples_are_413(arrays: Running, table: Running) -> None:
    assert "more than 200 samples" in reason(arrays.post("/predict", npy(np.repeat(SAMPLES, 3, 0))), 413)
    assert "more than 1,024 samples" in reason(table.post("/predict", {"rows": [{}] * 1025}), 413)


def test_an_encoded_body_and_a_form_are_415(arrays: Running) -> None:
    assert "'gzip'; expected no encoding" in reason(arrays.post("/predict", b"x", content_encoding="gzip"), 415)
    form = arrays.post("/predict", b"x", content_type="multipart/form-data; boundary=x")
    assert "form with parts" in reason(form, 415)


def test_an_unknown_path_is_404_and_a_wrong_method_405(arrays: Running) -> None:
    assert "/nope does not exist" in reason(arrays.get("/nope"), 404)
    assert "/v2/models/x/infer" in reason(arrays.post("/v2/models/x/infer", {}), 404)
    wrong = arrays.get("/predict")
    assert "does not support GET" in reason(wrong, 405)
    assert wrong.headers["allow"] == "POST"


@pytest.mark.parametrize(("path", "status"), [("/predict/", 404), ("/nope", 404), ("/predict", 405), ("/v2", 200)])
def test_a_host_that_is_no_address_changes_no_response(arrays: Running, path: str, status: int) -> None:
    assert arrays.get(path, host="[").status == status


def test_bytes_that_are_not_http_are_400(arrays: Running) -> None:
    with socket.create_connection(("127.0.0.1", arrays.port)) as client:
        client.sendall(b"nonsense\r\n\r\n")
        head, _, body = b"".join(iter(lambda: client.makefile("rb").read(), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert set(json.loads(body)) == {"error", "hint"}


def test_a_body_that_does_not_arrive_is_408(models: dict[str, PackagedModel]) -> None:
    with (
        running(models["arrays"], Limits(timeout=0.3)) as server,
        socket.create_connection(("127.0.0.1", server.port)) as client,
    ):
        client.sendall(b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nx")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 408 ")


def test_headers_that_do_not_arrive_close_the_connection(
    models: dict[str, PackagedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.models.serving.server._HEADER_SECONDS", 0.3)
    with (
        running(models["arrays"], Limits()) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as client,
    ):
        client.sendall(b"POST /predict HTTP/1.1\r\nhost: ")
        assert client.recv(1 << 16) == b""


def test_a_slow_net_is_504_and_a_full_queue_503(models: dict[str, PackagedModel]) -> None:
    limits = Limits(batch_wait=20, timeout=4, concurrency=2)  # a request waits for others longer than its timeout
    with running(models["arrays"], limits) as server, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(server.post, "/predict", npy(SAMPLES[:1])) for _ in range(2)]
        while server.server.service.occupancy.requests < 2:
            time.sleep(0.01)
        full = server.post("/predict", npy(SAMPLES[:1]))
        assert "the server has 2 requests in progress, its limit" in reason(full, 503)
        assert full.headers["retry-after"] == "1"
        assert server.get("/v2/health/live").status == 200
        assert ["the response was not ready within 4 s" in reason(each.result(), 504) for each in waiting] == [
            True,
            True,
        ]


def test_a_token_is_required_for_all_but_health_and_the_page(models: dict[str, PackagedModel]) -> None:
    with running(models["arrays"], Limits(), token=TOKEN) as server:
        for path in ("/package", "/certificate", "/record", "/metrics", "/openapi.json", "/v2", "/nope"):
            assert "no valid token" in reason(server.get(path), 401), path
            assert server.get(path, authorization=f"Bearer {TOKEN.upper()}").status == 401
        right = {"authorization": f"Bearer {TOKEN}"}
        assert server.post("/predict", npy(SAMPLES[:1])).status == 401
        assert server.post("/predict", npy(SAMPLES[:1]), **right).status == 200
        assert {server.get(path).status for path in ("/", "/v2/health/live", "/v2/health/ready")} == {200}


def test_an_unexpected_exception_is_500_with_a_number_that_the_log_has(
    models: dict[str, PackagedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(models["arrays"], Limits()) as server:
        monkeypatch.setattr("trainer.models.serving.app.batches_of", lambda *_, **__: 1 / 0)
        message = reason(server.post("/predict", npy(SAMPLES[:1])), 500)
        number = message.split()[-1]
        assert [line for line in server.lines if number in line] == [
            f"error {number}: unexpected ZeroDivisionError: division by zero"
        ]
        assert "division" not in message


def test_the_documents_are_those_of_the_package(arrays: Running, packages: dict[str, Path]) -> None:
    for path, name in {
        "/package": "package.json",
        "/certificate": "certificate.json",
        "/record": "record.json",
    }.items():
        assert arrays.get(path).body == (packages["arrays"] / name).read_bytes()


def test_the_protocols_metadata_names_the_inputs_and_outputs(tensors: Running) -> None:
    name = tensors.server.service.name
    found = tensors.get(f"/v2/models/{name}").json
    assert found["inputs"] == [{"name": "tokens", "datatype": "INT64", "shape": [-1, -1]}]
    assert found["outputs"] == [{"name": "output", "datatype": "FP32", "shape": [-1, 3]}]
    assert tensors.get(f"/v2/models/{name}/ready").json == {"name": name, "ready": True}
    assert tensors.get("/v2").json["name"] == "reprise"


def test_the_openapi_document_has_the_types_of_the_package(arrays: Running, table: Running) -> None:
    paths = arrays.get("/openapi.json").json["paths"]
    content = paths["/predict"]["post"]["requestBody"]["content"]
    image = content["application/json"]["schema"]["properties"]["inputs"]["properties"]["image"]
    assert (image["maxItems"], image["items"]["items"]["maxItems"]) == (200, 4)
    assert arrays.infer in paths
    rows = table.get("/openapi.json").json["paths"]["/predict"]["post"]["requestBody"]["content"]
    row = rows["application/json"]["schema"]["oneOf"][0]["properties"]["rows"]["items"]
    assert sorted(row["required"]) == ["color", "height", "width"]


def test_metrics_count_requests_by_endpoint_and_status(models: dict[str, PackagedModel]) -> None:
    with running(models["arrays"], Limits()) as server:
        server.post("/predict", npy(SAMPLES[:3]))
        server.get("/a/b/c")
        found = server.get("/metrics").body.decode().splitlines()
    assert 'reprise_requests_total{endpoint="/predict",status="200"} 1.0' in found
    assert 'reprise_requests_total{endpoint="other",status="404"} 1.0' in found
    assert "reprise_batch_samples_sum 3.0" in found
    assert "reprise_queue_length 0.0" in found
