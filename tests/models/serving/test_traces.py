"""Spans of requests: the real command sends them to the collector that the standard variables name; without them, no span is sent."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

import pytest

pytest.importorskip("torch")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.models.serving.test_app import npy
from tests.models.serving.test_server import SAMPLES, command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.torch, pytest.mark.trains]
TRACE: Final = "0af7651916cd43dd8448eb211c80319c"


class Collector(BaseHTTPRequestHandler):
    """A collector of the OpenTelemetry protocol."""

    received: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        self.received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Run a collector; yield its address, and the spans that it receives."""
    received: list[tuple[str, bytes]] = []
    handler = type("Receiving", (Collector,), {"received": received})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


def predict(port: int) -> None:
    """Send a request that belongs to a trace, and a request to an unknown path."""
    for path in ("/predict", "/secret?q=1"):
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", path, npy(SAMPLES[:1]), {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
        connection.getresponse().read()
        connection.close()


def test_a_collector_gets_a_span_for_each_request_in_the_trace_of_its_client(packages: dict[str, Path]) -> None:
    with collector() as (address, received):
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_SERVICE_NAME": "ants"}
        with command(packages["arrays"], environ=environ) as (process, port, _):
            predict(port)
            process.terminate()
            assert process.wait(30) == 0
    assert {path for path, _ in received} == {"/v1/traces"}
    found = [ExportTraceServiceRequest.FromString(body).resource_spans[0] for _, body in received]
    attributes = {each.key: each.value.string_value for each in found[0].resource.attributes}
    assert attributes["service.name"] == "ants"
    spans = [span for each in found for scope in each.scope_spans for span in scope.spans]
    assert [(span.name, span.trace_id.hex()) for span in spans] == [("POST /predict", TRACE), ("POST", TRACE)]
    status = next(each.value.int_value for each in spans[0].attributes if each.key == "http.response.status_code")
    assert status == 200


def test_a_collector_that_is_down_delays_no_response_and_the_end_by_seconds(packages: dict[str, Path]) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with command(packages["arrays"], environ=environ) as (process, port, _):
        predict(port)
        process.terminate()
        assert process.wait(20) == 0
        assert process.stderr
        assert "Traceback" not in process.stderr.read()
