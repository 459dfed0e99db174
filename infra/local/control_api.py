"""What no AWS API has: captured mail, the clock's tick, alarms at once. Under `/_local/`."""

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .shared import Wsgi

if TYPE_CHECKING:
    from .cloud import LocalCloud


# No bucket can be called this: S3's names have no underscore.
_PREFIX = "/_local/"


def with_control_api(application: Wsgi, cloud: "LocalCloud") -> Wsgi:
    """The application, with the control paths in front of it."""

    def handle(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if not path.startswith(_PREFIX):
            try:
                return application(environ, start_response)
            except Exception as error:  # noqa: BLE001 - a fault of ours: the client sees a 500
                cloud.faults.append(f"{type(error).__name__}: {error}")
                start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
                return [cloud.faults[-1].encode()]
        answer = _answer(cloud, environ["REQUEST_METHOD"], path.removeprefix(_PREFIX))
        status = "404 Not Found" if answer is None else "200 OK"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    return handle


def _answer(cloud: "LocalCloud", method: str, name: str) -> Any:
    match method, name:
        case "GET", "mails":
            return cloud.wiring.mails_as_dicts()
        case "GET", "idle":
            return cloud.wiring.idle
        case "GET", "iam":
            return cloud.iam.as_dict()
        case "POST", tick if tick.partition("/")[0] == "tick":
            rule = tick.partition("/")[2]
            return [cloud.wiring.fire(rule)] if rule else cloud.wiring.trigger_all()
        case "POST", "alarms":
            return {change.name: change.state for change in cloud.alarms.evaluate()}
        case _:
            return None
