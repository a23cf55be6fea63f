"""The application of a server: its endpoints for one package."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

import trainer
from trainer.base.errors import DatasetError
from trainer.models.package import CERTIFICATE, RECORD
from trainer.models.serving.batching import Batcher
from trainer.models.serving.bodies import batches_of, inference_batch, is_quick, is_small, kind_of
from trainer.models.serving.guard import Guard, Occupancy
from trainer.models.serving.limits import RequestError, json_bytes, parsed_request
from trainer.models.serving.metrics import CONTENT_TYPE, Metrics
from trainer.models.serving.page import PAGE, POLICY
from trainer.models.serving.schema import document, get_operations, infer_operation, predict_operation
from trainer.models.serving.tensors import metadata, protocol_tensor, request_id, requested_outputs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from fastapi.telemetry import TelemetryConfig

    from trainer.models.packaged import PackagedModel
    from trainer.models.serving.bodies import Batch
    from trainer.models.serving.limits import Limits

    Endpoint = Callable[[Request], Awaitable[Response]]

T = TypeVar("T")
_DECODERS: Final = 2
"""Threads that decode large bodies and encode large responses."""
_FEW_VALUES: Final = 4096
"""A response with at most this many numbers is encoded in about a millisecond."""
_JSON: Final = "application/json"
_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": True,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": True,
}
"""A span for each request, sent to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names. Without it, the server sends nothing."""


class Service:
    """A package that a server serves: the endpoints and their state."""

    def __init__(self, model: PackagedModel, limits: Limits) -> None:
        self.model, self.limits, self.metrics, self.occupancy = model, limits, Metrics(), Occupancy()
        self.is_ready = False
        self.name, self.digest = model.package.name, model.package.digest  # each access computes the digest
        self._kind = kind_of(model)
        self._pool = ThreadPoolExecutor(max_workers=_DECODERS, thread_name_prefix="decode")
        self._batcher: Batcher | None = None
        self.metrics.watch("reprise_requests_in_progress", "POST requests now", lambda: self.occupancy.requests)
        self.metrics.watch("reprise_queue_length", "Batches that wait for the program", lambda: self.batcher.waiting)

    @property
    def batcher(self) -> Batcher:
        """The batcher, which exists while the server runs."""
        assert self._batcher is not None  # noqa: S101 - `running` makes it before the first request
        return self._batcher

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """Create the batcher, and close it after all requests have got a response."""
        limits = self.limits
        self._batcher = Batcher(
            self.model.outputs, most=limits.max_batch, wait=limits.batch_wait, observe=self.metrics.add_batch
        )
        self.is_ready = True
        yield
        self.is_ready = False
        await self._batcher.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def predict(self, request: Request) -> Response:
        """Predict the samples of a picture, a table, arrays or JSON, as `reprise predict --json` does."""
        body, media = await request.body(), request.headers.get("content-type", "")
        decode = partial(batches_of, self.model, body, content_type=media, limits=self.limits)
        batches = await self._done(decode, is_quick=is_quick(body, self._kind, content_type=media))
        return await self._response(batches, self._predictions)

    async def infer(self, request: Request) -> Response:
        """Predict the tensors of an inference request of the protocol."""
        body = await request.body()
        parsed, batch = await self._done(lambda: self._inference(body), is_quick=is_small(body))
        names = requested_outputs(parsed, self.model.package.outputs)
        return await self._response([batch], lambda found: self._protocol(parsed, names, found[0]))

    async def server(self, _: Request) -> Response:
        """The server, as the protocol describes it."""
        return _json({"name": "reprise", "version": trainer.__version__, "extensions": []})

    async def live(self, _: Request) -> Response:
        """Whether the server runs."""
        return _json({"live": True})

    async def ready(self, _: Request) -> Response:
        """Whether the server accepts requests: 503 after SIGTERM."""
        return _json({"ready": self.is_ready}, status=200 if self.is_ready else 503)

    async def described(self, _: Request) -> Response:
        """The inputs and outputs of the package, as the protocol describes them."""
        package = self.model.package
        about = {"name": self.name, "versions": [self.digest], "platform": "pytorch_export"}
        inputs, outputs = ([metadata(each) for each in specs] for specs in (package.inputs, package.outputs))
        return _json({**about, "inputs": inputs, "outputs": outputs})

    async def model_ready(self, _: Request) -> Response:
        """Whether the package accepts requests."""
        return _json({"name": self.name, "ready": self.is_ready}, status=200 if self.is_ready else 503)

    async def package(self, _: Request) -> Response:
        """The document of the package."""
        return Response(self.model.package.to_json(), media_type=_JSON)

    async def certificate(self, _: Request) -> Response:
        """The certificate of the package."""
        return Response(self.model.opened.files[CERTIFICATE], media_type=_JSON)

    async def record(self, _: Request) -> Response:
        """The record of the run."""
        return Response(self.model.opened.files[RECORD], media_type=_JSON)

    async def measured(self, _: Request) -> Response:
        """The metrics of this server."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    def _inference(self, body: bytes) -> tuple[dict[str, Any], Batch]:
        parsed = parsed_request(body, most=self.limits.max_body)
        request_id(parsed)
        return parsed, inference_batch(self.model, parsed, limits=self.limits)

    async def _response(self, batches: Sequence[Batch], content: Callable[[list[Batch]], object]) -> Response:
        """Return the response for the outputs of all batches. Raise `RequestError` if the net fails, or an output is not finite."""
        try:
            found = [await self.batcher.outputs(batches[0])] if len(batches) == 1 else await self._all(batches)
        except DatasetError as fault:
            raise RequestError(422, fault.message, hint=fault.hint or "send other values") from fault
        values = sum(tensor.numel() for each in found for tensor in each.values())
        try:
            body = await self._done(lambda: json_bytes(content(found)), is_quick=values <= _FEW_VALUES)
            return Response(body, media_type=_JSON)
        except ValueError as fault:
            message = "the prediction has a number that is not finite, which JSON does not support"
            raise RequestError(422, message, hint="send values as in the dataset that it was trained on") from fault

    def _predictions(self, found: list[Batch]) -> object:
        form = self.model.package.answer
        return {"package": self.digest, "predictions": [each for batch in found for each in form.predictions(batch)]}

    def _protocol(self, parsed: dict[str, Any], names: list[str], found: Batch) -> object:
        own = {"id": parsed["id"]} if parsed.get("id") is not None else {}
        outputs = [protocol_tensor(name, found[name].numpy()) for name in names]
        return {"model_name": self.name, "model_version": self.digest, **own, "outputs": outputs}

    async def _all(self, batches: Sequence[Batch]) -> list[Batch]:
        return await asyncio.gather(*(self.batcher.outputs(each) for each in batches))

    async def _done(self, call: Callable[[], T], *, is_quick: bool) -> T:
        """Run a quick call directly, another call in a thread: passing a call to a thread takes longer than decoding a small body."""
        return call() if is_quick else await asyncio.get_running_loop().run_in_executor(self._pool, call)


def make_app(service: Service, *, token: str | None, say: Callable[[str], object]) -> FastAPI:
    """Return the application; `say` prints a line about an error of the server."""
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=service.running,
        telemetry=_TELEMETRY,
    )
    gets, posts = _gets(service), _posts(service)
    for path, call in posts.items():  # before the others: the first route that matches is used
        app.add_route(path, call, methods=["POST"])
    for path, call in gets.items():
        app.add_route(path, call)
    shown: dict[str, tuple[bytes, str, dict[str, str]]] = {
        "/": (PAGE, "text/html", {"content-security-policy": POLICY}),
        "/openapi.json": (json.dumps(_described(service, has_token=token is not None)).encode(), _JSON, {}),
    }
    for path, content in shown.items():
        app.add_route(path, _fixed(*content))
    app.add_exception_handler(HTTPException, _without_route)
    app.add_middleware(
        Guard,
        limits=service.limits,
        metrics=service.metrics,
        token=token,
        occupancy=service.occupancy,
        paths=(*gets, *posts, *shown),
        say=say,
    )
    return app


def _gets(service: Service) -> dict[str, Endpoint]:
    model = f"/v2/models/{service.name}"
    return {
        "/v2": service.server,
        "/v2/health/live": service.live,
        "/v2/health/ready": service.ready,
        model: service.described,
        f"{model}/ready": service.model_ready,
        "/package": service.package,
        "/certificate": service.certificate,
        "/record": service.record,
        "/metrics": service.measured,
    }


def _posts(service: Service) -> dict[str, Endpoint]:
    return {"/predict": service.predict, f"/v2/models/{service.name}/infer": service.infer}


def _described(service: Service, *, has_token: bool) -> dict[str, Any]:
    """Return the OpenAPI document. The summary of an endpoint is the docstring of its method."""
    operations = get_operations(service.model.package) | {
        "predict": predict_operation(service.model, service.limits),
        "infer": infer_operation(service.model.package, service.limits),
    }
    paths: dict[str, Any] = {}
    for method, endpoints in {"get": _gets(service), "post": _posts(service)}.items():
        for path, call in endpoints.items():
            name = call.__name__
            about = {"operationId": name, "summary": (call.__doc__ or name).strip().rstrip(".")}
            paths[path] = {method: about | operations[name]}
    return document(service.model.package, paths, has_token=has_token)


async def _without_route(request: Request, fault: Exception) -> Response:
    """Return the error for a path or a method that no endpoint has."""
    status = fault.status_code if isinstance(fault, HTTPException) else 500
    path = request.scope["path"][:80]  # `request.url` raises for some values of the header `Host`
    message = f"{path} does not support {request.method}" if status == 405 else f"{path} does not exist"  # noqa: PLR2004 - an HTTP status
    headers = dict(fault.headers or {}) if isinstance(fault, HTTPException) else {}
    return Response(
        json_bytes({"error": message, "hint": "/openapi.json lists the endpoints"}), status, headers, media_type=_JSON
    )


def _fixed(body: bytes, media: str, headers: dict[str, str]) -> Callable[[Request], Any]:
    async def respond(_: Request) -> Response:
        return Response(body, headers=headers, media_type=media)

    return respond


def _json(content: object, *, status: int = 200) -> Response:
    return Response(json.dumps(content), status, media_type=_JSON)
