"""IAM in force: what a role asks for passes only if the role's deployed policies allow it.

A function, a state machine and the clock have temporary credentials of their role, as on AWS.
Each request that arrives under them is named (`permissions`) and evaluated (`policies`); one that
cannot be named is denied. Any other credentials are the administrator's.
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

from ..shared import Wsgi
from . import permissions
from .policies import Call, Grant, evaluate

# Distinct calls that are kept; a run of four branches makes about fifty.
_KEPT = 10_000

_SCOPE = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/")

# How each service refuses; JSON protocols do so with status 400.
_REFUSALS = {
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
    """Credentials of a role that somebody has assumed."""

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
class Made:
    """A call and the role that made it."""

    role: str
    call: Call


class Iam:
    """The sessions, and what was asked under them: `calls`, `uses` of policies, `denied`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self.calls: dict[Made, None] = {}
        self.uses: set[tuple[str, Grant]] = set()
        self.denied: deque[Made] = deque(maxlen=_KEPT)

    def assume(self, role_arn: str, name: str) -> Session:
        """Temporary credentials of a role, as a service gets them."""
        letters = string.ascii_uppercase + string.digits
        key = "ASIA" + "".join(secrets.choice(letters) for _ in range(16))
        session = Session(
            role_arn, name, Credentials(key, secrets.token_urlsafe(30), secrets.token_urlsafe(60))
        )
        with self._lock:
            self._sessions[key] = session
        return session

    def session_of(self, access_key: str) -> Session | None:
        """Whose credentials these are; None if they are the administrator's."""
        with self._lock:
            session = self._sessions.get(access_key)
        return session or _assumed_in_moto(access_key)

    def role_of(self, access_key: str) -> str:
        """The ARN of the role whose credentials these are; empty for the administrator's."""
        session = self.session_of(access_key)
        return session.role_arn if session else ""

    def allows(self, session: Session, call: Call) -> bool:
        """Whether the role's policies allow the call; keeps what was asked and why it may."""
        call = replace(call, context=(*call.context, ("aws:PrincipalAccount", session.account)))
        uses = evaluate(call, _policies(session))
        made = Made(session.role, call)
        with self._lock:
            if len(self.calls) < _KEPT:
                self.calls[made] = None
            self.uses.update((session.role, use) for use in uses)
            if not uses:
                self.denied.append(made)
        return bool(uses)

    def as_dict(self) -> dict[str, Any]:
        """What was asked, what allowed it, and what was denied, for JSON."""
        with self._lock:
            return {
                "calls": [asdict(made) for made in self.calls],
                "uses": [{"role": role, **asdict(use)} for role, use in self.uses],
                "denied": [asdict(made) for made in self.denied],
            }


def _assumed_in_moto(access_key: str) -> Session | None:
    """The session that an AssumeRole has opened, if the role is one that was made here."""
    for account, partitions in list(sts_backends.items()):
        found = partitions["aws"].get_assumed_role_from_access_key(access_key)
        if found and _role(account, found.role_arn.rpartition("/")[2]):
            return Session(found.role_arn, found.session_name, Credentials(access_key, "", ""))
    return None


def _role(account: str, name: str) -> Any:
    roles = iam_backends[account]["aws"].roles.values()
    return next((role for role in roles if role.name == name), None)


def _policies(session: Session) -> dict[str, str]:
    """The JSON of a role's inline and managed policies, by name."""
    role = _role(session.account, session.role)
    if not role:
        return {}
    managed = {policy.name: _default_version(policy) for policy in role.managed_policies.values()}
    return {**managed, **role.policies}


def _default_version(policy: Any) -> str:
    (document,) = [each.document for each in policy.versions if each.is_default]
    return str(document)


# --- In front of moto -------------------------------------------------------------------------


def with_iam(application: Wsgi, iam: Iam) -> Wsgi:
    """The application, with every request of a role checked in front of it."""

    def checked(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
        session = iam.session_of(scope[1]) if scope else None
        if scope is None or session is None:
            return application(environ, start_response)
        refusal = _refusal(iam, session, Request(environ), service=scope[3], region=scope[2])
        if refusal is None:
            return application(environ, start_response)
        status, headers, body = refusal
        start_response(status, headers)
        return [body]

    return checked


Refusal = tuple[str, list[tuple[str, str]], bytes]


def _refusal(
    iam: Iam, session: Session, request: Request, *, service: str, region: str
) -> Refusal | None:
    named = permissions.name(request, service, region)
    for call in permissions.calls(named, session.account):
        if not iam.allows(session, call):
            return _denied(session, call, named, request)
    return None


def _denied(session: Session, call: Call, named: permissions.Named, request: Request) -> Refusal:
    """AWS's answer, in the form of the service's protocol."""
    code, status = _REFUSALS.get(named.service, ("AccessDeniedException", 400))
    message = (
        f"User: {session.principal} is not authorized to perform: {call.action} on resource:"
        f" {call.resource} because no identity-based policy allows the {call.action} action"
    )
    protocol = determine_request_protocol(named.operation.service_model, request.content_type)
    if protocol.endswith("json"):
        body = json.dumps({"__type": code, "message": message})
        headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", code)]
        headers.append(("x-amzn-RequestId", "local"))  # Step Functions puts it into the cause
    else:
        error = f"<Code>{code}</Code><Message>{html.escape(message)}</Message>"
        body = _XML[protocol].format(error)
        headers = [("Content-Type", "text/xml")]
    return f"{status} Refused", headers, body.encode()


# How an error stands in the XML protocols.
_XML = {
    "ec2": "<Response><Errors><Error>{}</Error></Errors><RequestID>local</RequestID></Response>",
    "query": "<ErrorResponse><Error><Type>Sender</Type>{}</Error>"
    "<RequestId>local</RequestId></ErrorResponse>",
    "rest-xml": "<Error>{}<RequestId>local</RequestId></Error>",
}


def install(iam: Iam) -> None:
    """Have moto's Step Functions call the other services under the state machine's role."""
    moto_own = getattr(boto_client.boto_client_for, "moto_own", boto_client.boto_client_for)
    session_of = cache(iam.assume)

    def boto_client_for(region: str, service: str, state_credentials: Any) -> Any:
        client: Any = moto_own(region, service, state_credentials)
        session = session_of(state_credentials.role_arn, "states")
        client._request_signer._credentials = session.credentials
        return client

    boto_client_for.moto_own = moto_own  # type: ignore[attr-defined]  # the one that was there before
    for name, module in sys.modules.copy().items():
        if name.startswith("moto.stepfunctions.parser.") and hasattr(module, "boto_client_for"):
            vars(module)["boto_client_for"] = boto_client_for
