"""What a request needs: IAM's action, the resource and the condition keys.

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


@dataclass(frozen=True, slots=True)
class Named:
    """A request as botocore's models see it."""

    service: str
    region: str
    operation: OperationModel
    parameters: Mapping[str, Any]

    @property
    def action(self) -> str:
        action = f"{_PREFIXES.get(self.service, self.service)}:{self.operation.name}"
        return _ACTIONS.get(action, action)


def name(request: Request, service: str, region: str) -> Named:
    """The request as its service's operation; one that is none of them needs what nobody has."""
    try:
        return _name(request, service, region)
    except NotFound:
        operation = OperationModel({}, get_service_model(_SERVICES.get(service, service)))
        return Named(service, region, operation, {})


def _name(request: Request, service: str, region: str) -> Named:
    if service in _NAMED_BY_PATH:
        operation, path = get_service_router(service).match(request)
        return Named(service, region, operation, request.args.to_dict() | path)
    body = request.get_data()
    # Whoever serves the request reads it again.
    request.environ["wsgi.input"] = io.BytesIO(body)
    operation, _ = get_service_router(_SERVICES.get(service, service)).match(request)
    parameters = request.form.to_dict() or json.loads(body or b"{}")
    return Named(service, region, operation, parameters)


def calls(named: Named, account: str) -> Iterator[Call]:
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


def _bucket(named: Named, account: str) -> Resources:
    name = named.parameters["Bucket"]
    owner = s3_backends.bucket_accounts.get(name, ("aws", account))[1]
    context = {"aws:ResourceAccount": owner}
    if named.operation.name.startswith("ListObjects"):
        context["s3:prefix"] = named.parameters.get("prefix", "")
    return [(f"arn:aws:s3:::{name}", context)]


def _object(named: Named, account: str) -> Resources:
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

    def describe(named: Named, account: str) -> Resources:
        return _arns(service, path(named.parameters), named, account)

    return describe


def _arns(service: str, names: Iterable[str], named: Named, account: str) -> Resources:
    for name in names:
        arn = (
            name
            if name.startswith("arn:")
            else (f"arn:aws:{service}:{named.region}:{account}:{name}")
        )
        yield arn, {"aws:ResourceAccount": arn.split(":")[4]}


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


def _work_group(named: Named, account: str) -> Resources:
    """Of a query that was started or has a name, too: its work group is its resource."""
    parameters, backend = named.parameters, athena_backends[account][named.region]
    name = parameters.get("WorkGroup", "primary")
    execution = backend.executions.get(str(parameters.get("QueryExecutionId")))
    found = execution or backend.named_queries.get(str(parameters.get("NamedQueryId")))
    if found is not None and found.workgroup is not None:
        name = found.workgroup.name
    return _arns("athena", [f"workgroup/{name}"], named, account)


def _catalog_table(parameters: Mapping[str, Any]) -> list[str]:
    database = parameters["DatabaseName"]
    return ["catalog", f"database/{database}", f"table/{database}/{parameters['Name']}"]


# One entry for each action that something here calls; the rest is denied.
_RESOURCES: dict[str, Callable[[Named, str], Resources]] = {
    "athena:GetNamedQuery": _work_group,
    "athena:GetQueryExecution": _work_group,
    "athena:GetQueryResults": _work_group,
    "athena:ListNamedQueries": _work_group,
    "athena:StartQueryExecution": _work_group,
    "athena:StopQueryExecution": _work_group,
    "cloudwatch:DescribeAlarms": _anything,
    "cloudwatch:GetMetricData": _anything,
    "cloudwatch:ListMetrics": _anything,
    "dynamodb:BatchGetItem": _here("dynamodb", lambda p: [f"table/{t}" for t in p["RequestItems"]]),
    "dynamodb:BatchWriteItem": _here(
        "dynamodb", lambda p: [f"table/{t}" for t in p["RequestItems"]]
    ),
    "dynamodb:PutItem": _here("dynamodb", lambda p: [f"table/{p['TableName']}"]),
    "dynamodb:Query": _here("dynamodb", _index),
    "ec2:DescribeInstances": _anything,
    "glue:GetTable": _here("glue", _catalog_table),
    "lambda:InvokeFunction": _here("lambda", lambda p: [_function(unquote(p["FunctionName"]))]),
    "logs:CreateLogGroup": _here("logs", lambda p: [f"log-group:{p['logGroupName']}"]),
    "logs:CreateLogStream": _here("logs", _log_group),
    "logs:PutLogEvents": _here(
        "logs", lambda p: [f"log-group:{p['logGroupName']}:log-stream:{p['logStreamName']}"]
    ),
    "s3:DeleteObject": _object,
    "s3:GetObject": _object,
    "s3:ListBucket": _bucket,
    "s3:PutObject": _object,
    "sns:Publish": _here("sns", lambda p: [p["TopicArn"]]),
    "sqs:SendMessage": _here("sqs", lambda p: [p["QueueUrl"].rpartition("/")[2]]),
    "states:DescribeMapRun": _here("states", lambda p: [p["mapRunArn"]]),
    "states:GetExecutionHistory": _here("states", lambda p: [p["executionArn"]]),
    "states:ListExecutions": _here("states", lambda p: [p["stateMachineArn"]]),
    "states:StartExecution": _here("states", lambda p: [p["stateMachineArn"]]),
    "sts:AssumeRole": _here("sts", lambda p: [p["RoleArn"]]),
}
