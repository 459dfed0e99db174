"""The permissions that a request needs: IAM action, resources and condition keys.

The names are those of the Service Authorization Reference:
https://docs.aws.amazon.com/service-authorization/latest/reference/reference.html
"""

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from moto.athena.models import athena_backends
from moto.core.model import OperationModel
from moto.core.request import Request
from moto.core.routing import get_service_router
from moto.core.utils import get_service_model
from moto.s3.models import s3_backends
from werkzeug.exceptions import NotFound

from .policies import Call

# Signing name -> botocore's service name and IAM's action prefix, where they differ.
_SERVICES = {"monitoring": "cloudwatch", "states": "stepfunctions"}
_PREFIXES = {"monitoring": "cloudwatch"}

# Services whose parameters are in the path; the body is the caller's data.
_PARAMETERS_IN_PATH = frozenset({"lambda", "s3"})

# Operations whose IAM action has another name.
_ACTIONS = {
    "lambda:Invoke": "lambda:InvokeFunction",
    "s3:HeadObject": "s3:GetObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListObjects": "s3:ListBucket",
    "s3:ListObjectsV2": "s3:ListBucket",
}


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request in terms of botocore's service models."""

    service: str
    region: str
    operation: OperationModel
    parameters: Mapping[str, Any]

    @property
    def action(self) -> str:
        action = f"{_PREFIXES.get(self.service, self.service)}:{self.operation.name}"
        return _ACTIONS.get(action, action)


def parse_request(request: Request, service: str, region: str) -> ParsedRequest:
    """Parse a request; an unknown operation becomes an action that no policy allows."""
    try:
        return _parse(request, service, region)
    except NotFound:
        operation = OperationModel({}, get_service_model(_SERVICES.get(service, service)))
        return ParsedRequest(service, region, operation, {})


def _parse(request: Request, service: str, region: str) -> ParsedRequest:
    if service in _PARAMETERS_IN_PATH:
        operation, path = get_service_router(service).match(request)
        return ParsedRequest(service, region, operation, request.args.to_dict() | path)
    body = request.get_data()
    # Make the body available again to the application.
    request.environ["wsgi.input"] = io.BytesIO(body)
    operation, _ = get_service_router(_SERVICES.get(service, service)).match(request)
    parameters = request.form.to_dict() or json.loads(body or b"{}")
    return ParsedRequest(service, region, operation, parameters)


def required_calls(request: ParsedRequest, account: str) -> Iterator[Call]:
    """Yield every call that IAM must allow for a request of a role in `account`."""
    describe = _RESOURCES.get(request.action)
    if describe is None:
        yield Call(request.action, f"(unknown action: {request.operation.name})")
        return
    for resource, context in describe(request, account):
        yield Call(request.action, resource, tuple(context.items()))
    if request.action == "s3:GetObject" and _is_missing(request.parameters):
        # Without s3:ListBucket, GetObject of a missing object is denied:
        # https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
        for resource, context in _bucket(request, account):
            yield Call("s3:ListBucket", resource, tuple(context.items()))


# Pairs of a resource ARN and its condition keys
Resources = Iterable[tuple[str, dict[str, str]]]


def _bucket(request: ParsedRequest, account: str) -> Resources:
    name = request.parameters["Bucket"]
    owner = s3_backends.bucket_accounts.get(name, ("aws", account))[1]
    context = {"aws:ResourceAccount": owner}
    if request.operation.name.startswith("ListObjects"):
        context["s3:prefix"] = request.parameters.get("prefix", "")
    return [(f"arn:aws:s3:::{name}", context)]


def _object(request: ParsedRequest, account: str) -> Resources:
    return [
        (f"{bucket}/{request.parameters['Key']}", context)
        for bucket, context in _bucket(request, account)
    ]


def _is_missing(parameters: Mapping[str, Any]) -> bool:
    name, key = parameters["Bucket"], parameters["Key"]
    if name not in s3_backends.bucket_accounts:
        return True
    partition, owner = s3_backends.bucket_accounts[name]
    return s3_backends[owner][partition].get_object(name, key) is None


def _own(service: str, names: Callable[[Mapping[str, Any]], Iterable[str]]) -> Any:
    """Resources in the caller's account and region; `names` may return ARNs too."""

    def describe(request: ParsedRequest, account: str) -> Resources:
        return _arns(service, names(request.parameters), request, account)

    return describe


def _arns(service: str, names: Iterable[str], request: ParsedRequest, account: str) -> Resources:
    for name in names:
        arn = (
            name
            if name.startswith("arn:")
            else (f"arn:aws:{service}:{request.region}:{account}:{name}")
        )
        yield arn, {"aws:ResourceAccount": arn.split(":")[4]}


def _any(*_: Any) -> Resources:
    return [("*", {})]


def _function(name: str) -> str:
    return name if name.startswith("arn:") else f"function:{name}"


def _log_group(parameters: Mapping[str, Any]) -> list[str]:
    # The reference names the log group as the resource; AWS's error messages name the ARN of the
    # log stream with an empty stream name.
    group = f"log-group:{parameters['logGroupName']}"
    return [group, f"{group}:log-stream:"]


def _index(parameters: Mapping[str, Any]) -> list[str]:
    table = f"table/{parameters['TableName']}"
    return [f"{table}/index/{parameters['IndexName']}" if "IndexName" in parameters else table]


def _work_group(request: ParsedRequest, account: str) -> Resources:
    """Return the work group of the request, or of the query execution or named query in it."""
    parameters, backend = request.parameters, athena_backends[account][request.region]
    name = parameters.get("WorkGroup", "primary")
    execution = backend.executions.get(str(parameters.get("QueryExecutionId")))
    found = execution or backend.named_queries.get(str(parameters.get("NamedQueryId")))
    if found is not None and found.workgroup is not None:
        name = found.workgroup.name
    return _arns("athena", [f"workgroup/{name}"], request, account)


def _catalog_table(parameters: Mapping[str, Any]) -> list[str]:
    database = parameters["DatabaseName"]
    return ["catalog", f"database/{database}", f"table/{database}/{parameters['Name']}"]


# The resources of each supported action; every other action is denied.
_RESOURCES: dict[str, Callable[[ParsedRequest, str], Resources]] = {
    "athena:GetNamedQuery": _work_group,
    "athena:GetQueryExecution": _work_group,
    "athena:GetQueryResults": _work_group,
    "athena:ListNamedQueries": _work_group,
    "athena:StartQueryExecution": _work_group,
    "athena:StopQueryExecution": _work_group,
    "cloudwatch:DescribeAlarms": _any,
    "cloudwatch:GetMetricData": _any,
    "cloudwatch:ListMetrics": _any,
    "dynamodb:BatchGetItem": _own("dynamodb", lambda p: [f"table/{t}" for t in p["RequestItems"]]),
    "dynamodb:BatchWriteItem": _own(
        "dynamodb", lambda p: [f"table/{t}" for t in p["RequestItems"]]
    ),
    "dynamodb:PutItem": _own("dynamodb", lambda p: [f"table/{p['TableName']}"]),
    "dynamodb:Query": _own("dynamodb", _index),
    "ec2:DescribeInstances": _any,
    "glue:GetTable": _own("glue", _catalog_table),
    "lambda:InvokeFunction": _own("lambda", lambda p: [_function(unquote(p["FunctionName"]))]),
    "logs:CreateLogGroup": _own("logs", lambda p: [f"log-group:{p['logGroupName']}"]),
    "logs:CreateLogStream": _own("logs", _log_group),
    "logs:PutLogEvents": _own(
        "logs", lambda p: [f"log-group:{p['logGroupName']}:log-stream:{p['logStreamName']}"]
    ),
    "s3:DeleteObject": _object,
    "s3:GetObject": _object,
    "s3:ListBucket": _bucket,
    "s3:PutObject": _object,
    "sns:Publish": _own("sns", lambda p: [p["TopicArn"]]),
    "sqs:SendMessage": _own("sqs", lambda p: [p["QueueUrl"].rpartition("/")[2]]),
    "states:DescribeMapRun": _own("states", lambda p: [p["mapRunArn"]]),
    "states:GetExecutionHistory": _own("states", lambda p: [p["executionArn"]]),
    "states:ListExecutions": _own("states", lambda p: [p["stateMachineArn"]]),
    "states:StartExecution": _own("states", lambda p: [p["stateMachineArn"]]),
    "sts:AssumeRole": _own("sts", lambda p: [p["RoleArn"]]),
}
