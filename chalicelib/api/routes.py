"""The routes: unwrap the request, call the service, wrap the response.

The service is imported at the first request, so that the cold starts of the other functions, which
share the zip, do not pay for it.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from chalice.app import (
    BadRequestError,
    Blueprint,
    ChaliceViewError,
    ConflictError,
    ForbiddenError,
    IAMAuthorizer,
    NotFoundError,
    Response,
)

from ..model.errors import BusyError, InvalidRequestError, StorageError, UnknownThingError

if TYPE_CHECKING:
    from .service import Service

logger = logging.getLogger(__name__)

_HEADERS = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ServiceUnavailableError(ChaliceViewError):
    """An AWS service rejected a call or failed."""

    STATUS_CODE = 503


View = Callable[..., Response]
Decorator = Callable[[View], View]


class Request(NamedTuple):
    """The parts of a request that the service uses."""

    query_params: Mapping[str, Sequence[str]]
    body: bytes
    fresh: bool

    @classmethod
    def of(cls, request: Any) -> "Request":
        query: Any = request.query_params or {}
        body = request.raw_body
        return cls(
            query_params={name: query.getlist(name) for name in query},
            body=body.encode() if isinstance(body, str) else body,
            fresh="no-cache" in request.headers.get("cache-control", ""),
        )


class _Routes:
    """A blueprint, and the code that its routes share."""

    def __init__(self, get_service: Callable[[], "Service"]) -> None:
        self.blueprint = Blueprint(__name__)
        self._get_service = get_service

    def get(self, path: str) -> Decorator:
        return self._route(path, "GET")

    def post(self, path: str) -> Decorator:
        return self._route(path, "POST")

    def _route(self, path: str, method: str) -> Decorator:
        # API Gateway authenticates and authorizes the caller; chalice local does not.
        decorator: Decorator = self.blueprint.route(
            path, methods=[method], authorizer=IAMAuthorizer()
        )
        return decorator

    def respond(self, call: Callable[["Service", Request], Any], status: int = 200) -> Response:
        """The response with the result of a call of the service."""
        _reject_other_sites(self.blueprint.current_request.headers)
        with http_errors():
            service = self._get_service()
            result = call(service, Request.of(self.blueprint.current_request))
            return Response(service.encode(result), dict(_HEADERS), status)

    def file(self, name: str) -> Response:
        """One of the page's files; without a name, the page itself."""
        # Imported here, as the service: only requests for the page pay for it.
        from . import static_files  # noqa: PLC0415

        with http_errors():
            file = static_files.get_file(name or static_files.INDEX)
        if file.is_cached_by(self.blueprint.current_request.headers):
            return Response("", {**file.headers()}, 304)
        return Response(file.text, {**file.headers()})


def _reject_other_sites(headers: Mapping[str, str]) -> None:
    """Reject requests that pages of other sites make with the permissions of chalice local.

    Browsers state the origin of a request. Without CORS such a page cannot read the response, but
    it could start a run. A site can also resolve its name to this machine (DNS rebinding), where no
    API Gateway checks signatures.
    """
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        raise ForbiddenError("requests from pages of other sites are not allowed")
    host = urlsplit(f"//{headers.get('host', 'localhost')}").hostname
    if "AWS_LAMBDA_FUNCTION_NAME" not in os.environ and host not in _LOOPBACK:
        raise ForbiddenError(f"chalice local accepts the hosts {', '.join(_LOOPBACK)} only")


def create_blueprint(get_service: Callable[[], "Service"]) -> Blueprint:
    """The API's routes; `get_service` is first called by a request."""
    routes = _Routes(get_service)
    _add_records(routes)
    _add_operations(routes)
    _add_queries(routes)
    _add_page(routes)
    return routes.blueprint


def _add_records(routes: _Routes) -> None:
    @routes.get("/metrics/{metric_type}")
    def metrics(metric_type: str) -> Response:
        return routes.respond(
            lambda service, request: service.metrics(metric_type, request.query_params)
        )

    @routes.get("/hosts")
    def hosts() -> Response:
        return routes.respond(
            lambda service, request: service.hosts(request.query_params, fresh=request.fresh)
        )

    @routes.get("/hosts/{resource_id}")
    def host(resource_id: str) -> Response:
        return routes.respond(
            lambda service, request: service.host(resource_id, request.query_params)
        )


def _add_operations(routes: _Routes) -> None:
    @routes.get("/runs")
    def runs() -> Response:
        return routes.respond(lambda service, request: service.runs(request.query_params))

    @routes.post("/runs")
    def start_run() -> Response:
        return routes.respond(lambda service, request: service.start_run(request.query_params), 202)

    @routes.get("/alarms")
    def alarms() -> Response:
        return routes.respond(lambda service, request: service.alarms(request.query_params))


def _add_queries(routes: _Routes) -> None:
    @routes.get("/queries")
    def queries() -> Response:
        return routes.respond(lambda service, request: service.queries(request.query_params))

    @routes.post("/queries")
    def start_query() -> Response:
        return routes.respond(
            lambda service, request: service.start_query(request.query_params, request.body), 202
        )

    @routes.get("/queries/{identity}")
    def query(identity: str) -> Response:
        return routes.respond(
            lambda service, request: service.query(identity, request.query_params)
        )


def _add_page(routes: _Routes) -> None:
    @routes.get("/")
    def page() -> Response:
        return routes.file("")

    @routes.get("/page/{file}")
    def page_file(file: str) -> Response:
        return routes.file(file)


@contextmanager
def http_errors() -> Iterator[None]:
    """Raise our errors as Chalice's; details from AWS go to the log, not to the caller."""
    try:
        yield
    except InvalidRequestError as error:
        raise BadRequestError(str(error)) from error
    except UnknownThingError as error:
        raise NotFoundError(str(error)) from error
    except BusyError as error:
        raise ConflictError(str(error)) from error
    except StorageError as error:
        logger.exception("a call of AWS failed")
        raise ServiceUnavailableError(f"a call of AWS failed ({error.code}); try again") from error
