"""IAM in force: what a role asks for passes only if the role's deployed policies allow it.

A function, a state machine and the clock have temporary credentials of their role, as on AWS.
Each request that arrives under them is named (action, resource, condition keys) and evaluated;
one that cannot be named is denied. Any other credentials are the administrator's.

The names are those of the Service Authorization Reference:
https://docs.aws.amazon.com/service-authorization/latest/reference/reference.html
"""

import html
import io
import json
import re
import secrets
import string
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any
from urllib.parse import unquote

from botocore.credentials import Credentials
from moto.core.model import OperationModel
from moto.core.request import Request, determine_request_protocol
from moto.core.routing import get_service_router
from moto.core.utils import get_service_model
from moto.iam.models import iam_backends
from moto.s3.models import s3_backends
from moto.stepfunctions.parser.asl.utils import boto_client
from moto.sts.models import sts_backends
from werkzeug.exceptions import NotFound

from .control import Wsgi
from .policies import Call, Use, evaluate

# Distinct calls that are kept; a run of four branches makes about fifty.
_KEPT = 10_000

_SCOPE = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/")

# Signing name -> botocore's service and IAM's prefix, where they differ.
_SERVICES = {"monitoring": "cloudwatch", "states": "stepfunctions"}
_PREFIXES = {"monitoring": "cloudwatch"}

# What these are asked for is in the path; their bodies are the caller's.
_NAMED_BY_PATH = frozenset({"lambda", "s3"})

# Operations that IAM calls by another name.
_ACTIONS = {
    "lambda:Invoke": "lambda:InvokeFunction",
    "s3:HeadObject": "s3:GetObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjects": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
}

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
        self.uses: set[tuple[str, Use]] = set()
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
    role = _role(session.account, session.role)
    return dict(role.policies) if role else {}


# --- Requests, named --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Named:
    """A request as botocore's models see it."""

    service: str
    region: str
    operation: OperationModel
    parameters: Mapping[str, Any]

    @property
    def action(self) -> str:
        action = f"{_PREFIXES.get(self.service, self.service)}:{self.operation.name}"
        return _ACTIONS.get(action, action)


def _name(request: Request, service: str, region: str) -> _Named:
    """Raises NotFound for what is no operation of the service."""
    if service in _NAMED_BY_PATH:
        operation, path = get_service_router(service).match(request)
        return _Named(service, region, operation, request.args.to_dict() | path)
    body = request.get_data()
    # Whoever serves the request reads it again.
    request.environ["wsgi.input"] = io.BytesIO(body)
    operation, _ = get_service_router(_SERVICES.get(service, service)).match(request)
    parameters = request.form.to_dict() or json.loads(body or b"{}")
    return _Named(service, region, operation, parameters)


def _calls(named: _Named, account: str) -> Iterator[Call]:
    """Every permission that the request needs."""
    describe = _RESOURCES.get(named.action)
    if describe is None:
        yield Call(named.action, f"(not known here: {named.operation.name})")
        return
    for resource, context in describe(named, account):
        yield Call(named.action, resource, tuple(context.items()))
    if named.action == "s3:GetObject" and _is_missing(named.parameters):
        # Whoever may not list a bucket is not told that an object is not there:
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
        for resource, context in _bucket(named, account):
            yield Call("s3:ListBucket", resource, tuple(context.items()))


Resources = Iterable[tuple[str, dict[str, str]]]


def _bucket(named: _Named, account: str) -> Resources:
    name = named.parameters["Bucket"]
    owner = s3_backends.bucket_accounts.get(name, ("aws", account))[1]
    context = {"aws:ResourceAccount": owner}
    if named.operation.name.startswith("ListObjects"):
        context["s3:prefix"] = named.parameters.get("prefix", "")
    return [(f"arn:aws:s3:::{name}", context)]


def _object(named: _Named, account: str) -> Resources:
    return [
        (f"{bucket}/{named.parameters['Key']}", context)
        for bucket, context in _bucket(named, account)
    ]


def _is_missing(parameters: Mapping[str, Any]) -> bool:
    name, key = parameters["Bucket"], parameters["Key"]
    if name not in s3_backends.bucket_accounts:
        return True
    partition, owner = s3_backends.bucket_accounts[name]
    return s3_backends[owner][partition].get_object(name, key) is None


def _here(service: str, path: Callable[[Mapping[str, Any]], Iterable[str]]) -> Any:
    """Resources of the caller's own account and region; what comes as an ARN is taken as it is."""

    def describe(named: _Named, account: str) -> Resources:
        for name in path(named.parameters):
            arn = (
                name
                if name.startswith("arn:")
                else (f"arn:aws:{service}:{named.region}:{account}:{name}")
            )
            yield arn, {"aws:ResourceAccount": arn.split(":")[4]}

    return describe


def _anything(*_: Any) -> Resources:
    return [("*", {})]


def _function(name: str) -> str:
    return name if name.startswith("arn:") else f"function:{name}"


def _log_group(parameters: Mapping[str, Any]) -> list[str]:
    # The reference says log group; AWS's refusals name the stream's ARN without its name.
    group = f"log-group:{parameters['logGroupName']}"
    return [group, f"{group}:log-stream:"]


def _index(parameters: Mapping[str, Any]) -> list[str]:
    table = f"table/{parameters['TableName']}"
    return [f"{table}/index/{parameters['IndexName']}" if "IndexName" in parameters else table]


# One entry for each action that something here calls; the rest is denied.
_RESOURCES: dict[str, Callable[[_Named, str], Resources]] = {
    "cloudwatch:GetMetricData": _anything,
    "cloudwatch:ListMetrics": _anything,
    "dynamodb:BatchGetItem": _here("dynamodb", lambda p: [f"table/{t}" for t in p["RequestItems"]]),
    "dynamodb:BatchWriteItem": _here(
        "dynamodb", lambda p: [f"table/{t}" for t in p["RequestItems"]]
    ),
    "dynamodb:PutItem": _here("dynamodb", lambda p: [f"table/{p['TableName']}"]),
    "dynamodb:Query": _here("dynamodb", _index),
    "ec2:DescribeInstances": _anything,
    "lambda:InvokeFunction": _here("lambda", lambda p: [_function(unquote(p["FunctionName"]))]),
    "logs:CreateLogGroup": _here("logs", lambda p: [f"log-group:{p['logGroupName']}"]),
    "logs:CreateLogStream": _here("logs", _log_group),
    "logs:PutLogEvents": _here(
        "logs", lambda p: [f"log-group:{p['logGroupName']}:log-stream:{p['logStreamName']}"]
    ),
    "s3:GetObject": _object,
    "s3:ListBucket": _bucket,
    "s3:PutObject": _object,
    "sns:Publish": _here("sns", lambda p: [p["TopicArn"]]),
    "sqs:SendMessage": _here("sqs", lambda p: [p["QueueUrl"].rpartition("/")[2]]),
    "states:DescribeMapRun": _here("states", lambda p: [p["mapRunArn"]]),
    "states:ListExecutions": _here("states", lambda p: [p["stateMachineArn"]]),
    "states:StartExecution": _here("states", lambda p: [p["stateMachineArn"]]),
    "sts:AssumeRole": _here("sts", lambda p: [p["RoleArn"]]),
}


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
    try:
        named = _name(request, service, region)
    except NotFound:
        operation = OperationModel({}, get_service_model(_SERVICES.get(service, service)))
        named = _Named(service, region, operation, {})
    for call in _calls(named, session.account):
        if not iam.allows(session, call):
            return _denied(session, call, named, request)
    return None


def _denied(session: Session, call: Call, named: _Named, request: Request) -> Refusal:
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

    boto_client_for.moto_own = moto_own  # type: ignore[attr-defined]
    for name, module in list(sys.modules.items()):
        if name.startswith("moto.stepfunctions.parser.") and hasattr(module, "boto_client_for"):
            vars(module)["boto_client_for"] = boto_client_for
