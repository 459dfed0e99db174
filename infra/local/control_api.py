"""Control API under `/_local/`: captured e-mails, scheduled rules, alarm evaluation, IAM calls."""

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .wsgi import WsgiApplication

if TYPE_CHECKING:
    from .cloud import LocalCloud


# Cannot collide with a bucket: S3 bucket names have no underscore.
_PREFIX = "/_local/"


def with_control_api(application: WsgiApplication, cloud: "LocalCloud") -> WsgiApplication:
    """Wrap an application with the control API.

    An exception in the application becomes a 500 response and an entry in `cloud.faults`.
    """

    def handle(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if not path.startswith(_PREFIX):
            try:
                return application(environ, start_response)
            except Exception as error:  # noqa: BLE001 - the client gets a 500
                cloud.faults.append(f"{type(error).__name__}: {error}")
                start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
                return [cloud.faults[-1].encode()]
        response = _respond(cloud, environ["REQUEST_METHOD"], path.removeprefix(_PREFIX))
        status = "404 Not Found" if response is None else "200 OK"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(response).encode()]

    return handle


def _respond(cloud: "LocalCloud", method: str, path: str) -> Any:
    """Return the response as JSON values, or None for an unknown path."""
    match method, path:
        case "GET", "mails":
            return cloud.wiring.mails_as_dicts()
        case "GET", "idle":
            return cloud.wiring.idle
        case "GET", "iam":
            return cloud.iam.as_dict()
        case "POST", tick if tick.partition("/")[0] == "tick":
            rule = tick.partition("/")[2]
            return [cloud.wiring.trigger(rule)] if rule else cloud.wiring.trigger_all()
        case "POST", "alarms":
            return {change.name: change.state for change in cloud.alarms.evaluate()}
        case _:
            return None
