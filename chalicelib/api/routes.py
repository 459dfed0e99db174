"""The routes: unwrap the request, ask, wrap the answer.

What answers is imported at the first request, so that the cold starts of the other functions,
which have the same zip, do not pay for it.
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

from ..model.errors import (
    BusyError,
    InvalidRequestError,
    StorageError,
    UnknownThingError,
)

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
    """AWS refused or failed."""

    STATUS_CODE = 503


View = Callable[..., Response]
Decorator = Callable[[View], View]


class Request(NamedTuple):
    """A request as the service takes it."""

    given: Mapping[str, Sequence[str]]
    body: bytes
    fresh: bool

    @classmethod
    def of(cls, request: Any) -> "Request":
        query: Any = request.query_params or {}
        body = request.raw_body
        return cls(
            given={name: query.getlist(name) for name in query},
            body=body.encode() if isinstance(body, str) else body,
            fresh="no-cache" in request.headers.get("cache-control", ""),
        )


class _Routes:
    """A blueprint, and what its routes have in common."""

    def __init__(self, get_service: Callable[[], "Service"]) -> None:
        self.blueprint = Blueprint(__name__)
        self._get_service = get_service

    def get(self, path: str) -> Decorator:
        return self._route(path, "GET")

    def post(self, path: str) -> Decorator:
        return self._route(path, "POST")

    def _route(self, path: str, method: str) -> Decorator:
        # API Gateway checks the signature and who may call; chalice local does not.
        decorator: Decorator = self.blueprint.route(
            path, methods=[method], authorizer=IAMAuthorizer()
        )
        return decorator

    def answer(self, make: Callable[["Service", Request], Any], status: int = 200) -> Response:
        _refuse_other_sites(self.blueprint.current_request.headers)
        with http_errors():
            service = self._get_service()
            answer = make(service, Request.of(self.blueprint.current_request))
            return Response(service.encode(answer), dict(_HEADERS), status)

    def file(self, name: str) -> Response:
        """One of the page's files; the page itself without a name."""
        # Of the page's requests only, as all that answers.
        from . import static_files as assets  # noqa: PLC0415

        with http_errors():
            file = assets.file_of(name or assets.START)
        if file.is_known_to(self.blueprint.current_request.headers):
            return Response("", {**file.headers()}, 304)
        return Response(file.text, {**file.headers()})


def _refuse_other_sites(headers: Mapping[str, str]) -> None:
    """Browsers say from where a page asks; other pages must not, with the rights of chalice local.

    Without CORS they could not read the answer, but a run would have started. And a site's name
    may be made to point at this machine (DNS rebinding), where API Gateway checks no signature.
    """
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        raise ForbiddenError("pages of other sites may not ask")
    host = urlsplit(f"//{headers.get('host', 'localhost')}").hostname
    if "AWS_LAMBDA_FUNCTION_NAME" not in os.environ and host not in _LOOPBACK:
        raise ForbiddenError(f"chalice local answers as {', '.join(_LOOPBACK)} only")


def create_blueprint(get_service: Callable[[], "Service"]) -> Blueprint:
    """The API's routes; `get_service` is called at requests only."""
    routes = _Routes(get_service)
    _add_records(routes)
    _add_operations(routes)
    _add_queries(routes)
    _add_page(routes)
    return routes.blueprint


def _add_records(routes: _Routes) -> None:
    @routes.get("/metrics/{metric_type}")
    def metrics(metric_type: str) -> Response:
        return routes.answer(lambda service, request: service.metrics(metric_type, request.given))

    @routes.get("/hosts")
    def hosts() -> Response:
        return routes.answer(
            lambda service, request: service.hosts(request.given, fresh=request.fresh)
        )

    @routes.get("/hosts/{resource_id}")
    def host(resource_id: str) -> Response:
        return routes.answer(lambda service, request: service.host(resource_id, request.given))


def _add_operations(routes: _Routes) -> None:
    @routes.get("/runs")
    def runs() -> Response:
        return routes.answer(lambda service, request: service.runs(request.given))

    @routes.post("/runs")
    def start_run() -> Response:
        return routes.answer(lambda service, request: service.start_run(request.given), 202)

    @routes.get("/alarms")
    def alarms() -> Response:
        return routes.answer(lambda service, request: service.alarms(request.given))


def _add_queries(routes: _Routes) -> None:
    @routes.get("/queries")
    def queries() -> Response:
        return routes.answer(lambda service, request: service.queries(request.given))

    @routes.post("/queries")
    def start_query() -> Response:
        return routes.answer(
            lambda service, request: service.start_query(request.given, request.body), 202
        )

    @routes.get("/queries/{identity}")
    def query(identity: str) -> Response:
        return routes.answer(lambda service, request: service.query(identity, request.given))


def _add_page(routes: _Routes) -> None:
    @routes.get("/")
    def page() -> Response:
        return routes.file("")

    @routes.get("/page/{file}")
    def page_file(file: str) -> Response:
        return routes.file(file)


@contextmanager
def http_errors() -> Iterator[None]:
    """Our errors as Chalice's; what AWS said is for the log, not for the caller."""
    try:
        yield
    except InvalidRequestError as error:
        raise BadRequestError(str(error)) from error
    except UnknownThingError as error:
        raise NotFoundError(str(error)) from error
    except BusyError as error:
        raise ConflictError(str(error)) from error
    except StorageError as error:
        logger.exception("AWS did not answer the API")
        raise ServiceUnavailableError(f"AWS refused or failed ({error.code}); try again") from error
