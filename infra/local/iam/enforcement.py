"""Enforcement of IAM policies on the requests of roles.

Functions, state machines and schedules use temporary credentials of their roles, as on AWS. Each
request under such credentials is parsed (`permissions`) and evaluated (`policies`); a request
that cannot be parsed is denied. Any other credentials are the administrator's.
"""

import html
import json
import re
import secrets
import string
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from botocore.credentials import Credentials
from moto.core.request import Request, determine_request_protocol
from moto.iam.models import iam_backends
from moto.stepfunctions.parser.asl.utils import boto_client
from moto.sts.models import sts_backends

from ..patching import original, patch
from ..wsgi import WsgiApplication
from .permissions import ParsedRequest, parse_request, required_calls
from .policies import Call, Grant, evaluate

# Limit of recorded calls; a run of four branches makes about fifty distinct ones.
_MAX_RECORDED = 10_000

_SCOPE = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/")

# Error code and HTTP status by signing name; other services use AccessDeniedException and 400.
_ERRORS = {
    "s3": ("AccessDenied", 403),
    "ec2": ("UnauthorizedOperation", 403),
    "iam": ("AccessDenied", 403),
    "sts": ("AccessDenied", 403),
    "sns": ("AuthorizationError", 403),
    "sqs": ("AccessDenied", 403),
    "monitoring": ("AccessDenied", 403),
    "lambda": ("AccessDeniedException", 403),
}


@dataclass(frozen=True, slots=True)
class Session:
    """Temporary credentials of an assumed role."""

    role_arn: str
    name: str
    credentials: Credentials

    @property
    def account(self) -> str:
        return self.role_arn.split(":")[4]

    @property
    def role(self) -> str:
        return self.role_arn.rpartition("/")[2]

    @property
    def principal(self) -> str:
        return f"arn:aws:sts::{self.account}:assumed-role/{self.role}/{self.name}"


@dataclass(frozen=True, slots=True)
class RoleCall:
    """A call and the name of the role that made it."""

    role: str
    call: Call


class Iam:
    """Sessions of roles, and a record of their requests.

    Attributes:
        calls: the distinct calls, in order.
        uses: (role, grant) pairs that allowed a call.
        denied: the calls that were denied.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self.calls: dict[RoleCall, None] = {}
        self.uses: set[tuple[str, Grant]] = set()
        self.denied: deque[RoleCall] = deque(maxlen=_MAX_RECORDED)

    def assume(self, role_arn: str, name: str) -> Session:
        """Create temporary credentials of a role, as AWS services do."""
        letters = string.ascii_uppercase + string.digits
        key = "ASIA" + "".join(secrets.choice(letters) for _ in range(16))
        session = Session(
            role_arn, name, Credentials(key, secrets.token_urlsafe(30), secrets.token_urlsafe(60))
        )
        with self._lock:
            self._sessions[key] = session
        return session

    def session_of(self, access_key: str) -> Session | None:
        """Return the session of an access key, or None for the administrator's."""
        with self._lock:
            session = self._sessions.get(access_key)
        return session or _session_in_moto(access_key)

    def role_of(self, access_key: str) -> str:
        """Return the role ARN of an access key, or '' for the administrator's."""
        session = self.session_of(access_key)
        return session.role_arn if session else ""

    def allows(self, session: Session, call: Call) -> bool:
        """Evaluate the role's policies for a call, and record the result."""
        call = replace(call, context=(*call.context, ("aws:PrincipalAccount", session.account)))
        grants = evaluate(call, _policies(session))
        role_call = RoleCall(session.role, call)
        with self._lock:
            if len(self.calls) < _MAX_RECORDED:
                self.calls[role_call] = None
            self.uses.update((session.role, grant) for grant in grants)
            if not grants:
                self.denied.append(role_call)
        return bool(grants)

    def as_dict(self) -> dict[str, Any]:
        """Return `calls`, `uses` and `denied` as JSON values."""
        with self._lock:
            return {
                "calls": [asdict(each) for each in self.calls],
                "uses": [{"role": role, **asdict(grant)} for role, grant in self.uses],
                "denied": [asdict(each) for each in self.denied],
            }


def _session_in_moto(access_key: str) -> Session | None:
    """Return the session of an AssumeRole call, if the role exists."""
    for account, partitions in list(sts_backends.items()):
        found = partitions["aws"].get_assumed_role_from_access_key(access_key)
        if found and _role(account, found.role_arn.rpartition("/")[2]):
            return Session(found.role_arn, found.session_name, Credentials(access_key, "", ""))
    return None


def _role(account: str, name: str) -> Any:
    roles = iam_backends[account]["aws"].roles.values()
    return next((role for role in roles if role.name == name), None)


def _policies(session: Session) -> dict[str, str]:
    """Return the JSON of a role's inline and managed policies by name."""
    role = _role(session.account, session.role)
    if not role:
        return {}
    managed = {policy.name: _default_version(policy) for policy in role.managed_policies.values()}
    return {**managed, **role.policies}


def _default_version(policy: Any) -> str:
    (document,) = [each.document for each in policy.versions if each.is_default]
    return str(document)


# --- WSGI middleware --------------------------------------------------------------------------


def with_iam(application: WsgiApplication, iam: Iam) -> WsgiApplication:
    """Wrap an application so that requests of roles are checked first."""

    def handle(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
        session = iam.session_of(scope[1]) if scope else None
        if scope is None or session is None:
            return application(environ, start_response)
        error = _check(iam, session, Request(environ), service=scope[3], region=scope[2])
        if error is None:
            return application(environ, start_response)
        status, headers, body = error
        start_response(status, headers)
        return [body]

    return handle


# Status line, headers, body
ErrorResponse = tuple[str, list[tuple[str, str]], bytes]


def _check(
    iam: Iam, session: Session, request: Request, *, service: str, region: str
) -> ErrorResponse | None:
    """Return the error response to a request that is denied, or None."""
    parsed = parse_request(request, service, region)
    for call in required_calls(parsed, session.account):
        if not iam.allows(session, call):
            return _access_denied(session, call, parsed, request)
    return None


def _access_denied(
    session: Session, call: Call, parsed: ParsedRequest, request: Request
) -> ErrorResponse:
    """Return AWS's error response in the format of the service's protocol."""
    code, status = _ERRORS.get(parsed.service, ("AccessDeniedException", 400))
    message = (
        f"User: {session.principal} is not authorized to perform: {call.action} on resource:"
        f" {call.resource} because no identity-based policy allows the {call.action} action"
    )
    protocol = determine_request_protocol(parsed.operation.service_model, request.content_type)
    if protocol.endswith("json"):
        body = json.dumps({"__type": code, "message": message})
        headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", code)]
        headers.append(("x-amzn-RequestId", "local"))  # Step Functions includes it in the cause
    else:
        error = f"<Code>{code}</Code><Message>{html.escape(message)}</Message>"
        body = _XML_ERRORS[protocol].format(error)
        headers = [("Content-Type", "text/xml")]
    return f"{status} Access Denied", headers, body.encode()


_XML_ERRORS = {
    "ec2": "<Response><Errors><Error>{}</Error></Errors><RequestID>local</RequestID></Response>",
    "query": "<ErrorResponse><Error><Type>Sender</Type>{}</Error>"
    "<RequestId>local</RequestId></ErrorResponse>",
    "rest-xml": "<Error>{}<RequestId>local</RequestId></Error>",
}


def install(iam: Iam) -> None:
    """Make moto's Step Functions call other services with the state machine's role."""
    session_of = cache(iam.assume)

    def boto_client_for(region: str, service: str, state_credentials: Any) -> Any:
        create: Any = original(boto_client, "boto_client_for")
        client: Any = create(region, service, state_credentials)
        session = session_of(state_credentials.role_arn, "states")
        client._request_signer._credentials = session.credentials
        return client

    for name, module in sys.modules.copy().items():
        if name.startswith("moto.stepfunctions.parser.") and hasattr(module, "boto_client_for"):
            patch(module, "boto_client_for", boto_client_for)
