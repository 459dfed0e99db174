"""CloudFormation types that moto's CloudFormation lacks or takes only in part.

moto finds its types through `CloudFormationModel.__subclasses__()`, the last one of a name
winning. Each function here does what CloudFormation does for its type: it calls the
service's API with the resource's properties.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moto.cloudformation import parsing  # registers moto's own types before ours
from moto.core.common_models import CloudFormationModel
from moto.dynamodb.models.table import Table
from moto.iam.models import Role
from moto.s3.models import FakeBucket
from moto.stepfunctions.models import StateMachine
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from ..errors import LocalCloudError

Properties = dict[str, Any]
ClientFactory = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Request:
    """What CloudFormation is asked to create, and the clients to do it with."""

    clients: ClientFactory
    name: str
    properties: Properties
    account: str
    region: str


# Returns the resource: its physical ID, or moto's own model of it.
Create = Callable[[Request], Any]


_TYPES: list[tuple[str, str, Create]] = []


def install(clients: ClientFactory) -> list[type]:
    """Make the types below known to moto, which holds them weakly: keep what this returns."""
    models = [_model(clients, *each) for each in _TYPES]
    # moto keeps what it found first, which in a second cloud of a process would be the first's.
    for kept in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map):
        kept.cache_clear()
    return models


def _model(clients: ClientFactory, type_name: str, name_property: str, create: Create) -> type:
    def create_from_cloudformation_json(
        cls: Any,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> Any:
        properties = cloudformation_json.get("Properties", {})
        created = create(Request(clients, resource_name, properties, account_id, region_name))
        if not isinstance(created, str):
            return created
        resource = cls()
        resource.physical_resource_id = created
        return resource

    method: Any = create_from_cloudformation_json
    return type(
        type_name.rpartition("::")[2],
        (CloudFormationModel,),
        {
            "__module__": __name__,
            "cloudformation_type": staticmethod(lambda: type_name),
            "cloudformation_name_type": staticmethod(lambda: name_property),
            "create_from_cloudformation_json": classmethod(method),
        },
    )


def _resource_type(type_name: str, name_property: str = "") -> Callable[[Create], Create]:
    """Note a function that creates resources of a type; `name_property` holds their name."""

    def note(create: Create) -> Create:
        _TYPES.append((type_name, name_property, create))
        return create

    return note


@_resource_type("AWS::S3::Bucket", "BucketName")
def _bucket(request: Request) -> FakeBucket:
    bucket = FakeBucket.create_from_cloudformation_json(
        request.name, {"Properties": request.properties}, request.account, request.region
    )
    s3 = request.clients("s3")
    s3.put_bucket_versioning(
        Bucket=request.name, VersioningConfiguration=request.properties["VersioningConfiguration"]
    )
    s3.put_public_access_block(
        Bucket=request.name,
        PublicAccessBlockConfiguration=request.properties["PublicAccessBlockConfiguration"],
    )
    s3.put_bucket_lifecycle_configuration(
        Bucket=request.name,
        LifecycleConfiguration={
            "Rules": [
                _lifecycle(rule) for rule in request.properties["LifecycleConfiguration"]["Rules"]
            ]
        },
    )
    notification = request.properties["NotificationConfiguration"]
    if notification["EventBridgeConfiguration"]["EventBridgeEnabled"]:
        s3.put_bucket_notification_configuration(
            Bucket=request.name, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )
    return bucket


def _lifecycle(rule: Properties) -> dict[str, Any]:
    """A lifecycle rule in the API's form, which nests what CloudFormation's has flat."""
    api = {
        "ID": rule["Id"],
        "Status": rule["Status"],
        "Filter": {"Prefix": rule.get("Prefix", "")},
    }
    if "ExpirationInDays" in rule:
        api["Expiration"] = {"Days": int(rule["ExpirationInDays"])}
    if "ExpiredObjectDeleteMarker" in rule:
        api["Expiration"] = {"ExpiredObjectDeleteMarker": True}
    if "Transitions" in rule:
        api["Transitions"] = [
            {"StorageClass": each["StorageClass"], "Days": each["TransitionInDays"]}
            for each in rule["Transitions"]
        ]
    for same in ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"):
        if same in rule:
            api[same] = rule[same]
    return api


@_resource_type("AWS::S3::BucketPolicy")
def _bucket_policy(request: Request) -> str:
    # Kept, not put: it denies what is not TLS, and loopback is plain HTTP.
    return f"{request.properties['Bucket']}-policy"


@_resource_type("AWS::DynamoDB::Table", "TableName")
def _table(request: Request) -> Table:
    table = Table.create_from_cloudformation_json(
        request.name, {"Properties": request.properties}, request.account, request.region
    )
    dynamodb = request.clients("dynamodb")
    dynamodb.update_time_to_live(
        TableName=request.name,
        TimeToLiveSpecification=request.properties["TimeToLiveSpecification"],
    )
    dynamodb.update_continuous_backups(
        TableName=request.name,
        PointInTimeRecoverySpecification=request.properties["PointInTimeRecoverySpecification"],
    )
    return table


@_resource_type("AWS::IAM::Role", "RoleName")
def _role(request: Request) -> Role:
    role = Role.create_from_cloudformation_json(
        request.name, {"Properties": request.properties}, request.account, request.region
    )
    # moto ignores them.
    for arn in request.properties.get("ManagedPolicyArns", []):
        request.clients("iam").attach_role_policy(RoleName=role.name, PolicyArn=arn)
    return role


@_resource_type("AWS::SNS::Subscription")
def _subscription(request: Request) -> str:
    answer = request.clients("sns").subscribe(
        TopicArn=request.properties["TopicArn"],
        Protocol=request.properties["Protocol"],
        Endpoint=request.properties["Endpoint"],
    )
    return str(answer["SubscriptionArn"])


@_resource_type("AWS::SNS::TopicPolicy")
def _topic_policy(request: Request) -> str:
    policy = json.dumps(request.properties["PolicyDocument"])
    for arn in request.properties["Topics"]:
        request.clients("sns").set_topic_attributes(
            TopicArn=arn, AttributeName="Policy", AttributeValue=policy
        )
    return request.name


@_resource_type("AWS::SQS::QueuePolicy")
def _queue_policy(request: Request) -> str:
    policy = json.dumps(request.properties["PolicyDocument"])
    for url in request.properties["Queues"]:
        request.clients("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    return request.name


@_resource_type("AWS::Glue::Database")
def _glue_database(request: Request) -> str:
    request.clients("glue").create_database(DatabaseInput=request.properties["DatabaseInput"])
    return str(request.properties["DatabaseInput"]["Name"])


@_resource_type("AWS::Glue::Table")
def _glue_table(request: Request) -> str:
    request.clients("glue").create_table(
        DatabaseName=request.properties["DatabaseName"], TableInput=request.properties["TableInput"]
    )
    return str(request.properties["TableInput"]["Name"])


@_resource_type("AWS::Athena::WorkGroup", "Name")
def _work_group(request: Request) -> str:
    request.clients("athena").create_work_group(
        Name=request.name,
        Description=request.properties["Description"],
        Configuration=request.properties["WorkGroupConfiguration"],
    )
    return request.name


@_resource_type("AWS::Athena::NamedQuery")
def _named_query(request: Request) -> str:
    answer = request.clients("athena").create_named_query(
        Name=request.properties["Name"],
        Description=request.properties["Description"],
        Database=request.properties["Database"],
        QueryString=request.properties["QueryString"],
        WorkGroup=request.properties["WorkGroup"],
    )
    return str(answer["NamedQueryId"])


@_resource_type("AWS::Lambda::EventInvokeConfig")
def _event_invoke_config(request: Request) -> str:
    request.clients("lambda").put_function_event_invoke_config(
        FunctionName=request.properties["FunctionName"],
        MaximumRetryAttempts=request.properties["MaximumRetryAttempts"],
        DestinationConfig=request.properties["DestinationConfig"],
    )
    return request.name


@_resource_type("AWS::CloudWatch::Alarm", "AlarmName")
def _alarm(request: Request) -> str:
    request.clients("cloudwatch").put_metric_alarm(**_numbers(request.properties))
    return request.name


@_resource_type("AWS::CloudWatch::CompositeAlarm", "AlarmName")
def _composite_alarm(request: Request) -> str:
    request.clients("cloudwatch").put_composite_alarm(**request.properties)
    return request.name


_NUMBERS: dict[str, type[float]] = {
    "DatapointsToAlarm": int,
    "EvaluationPeriods": int,
    "Period": int,
    "Threshold": float,
}


def _numbers(value: Any, name: str = "") -> Any:
    """A parameter of type Number comes as text."""
    if isinstance(value, dict):
        return {key: _numbers(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    return _NUMBERS[name](value) if name in _NUMBERS else value


@_resource_type("AWS::Logs::QueryDefinition")
def _query_definition(request: Request) -> str:
    # Kept, not put: moto has no saved queries.
    return str(request.properties["Name"])


def _definition(properties: Properties) -> str:
    """The definition in JSON, with its substitutions inserted as CloudFormation inserts them."""
    definition = json.dumps(properties["Definition"])
    for name, value in properties.get("DefinitionSubstitutions", {}).items():
        definition = definition.replace(f"${{{name}}}", value)
    return definition


@_resource_type("AWS::StepFunctions::StateMachine", "StateMachineName")
def _state_machine(request: Request) -> StateMachine:
    destinations = request.properties["LoggingConfiguration"]["Destinations"]
    answer = request.clients("stepfunctions").create_state_machine(
        name=request.properties["StateMachineName"],
        type=request.properties["StateMachineType"],
        roleArn=request.properties["RoleArn"],
        definition=_definition(request.properties),
        tracingConfiguration={
            "enabled": request.properties.get("TracingConfiguration", {}).get("Enabled", False)
        },
        loggingConfiguration={
            "level": request.properties["LoggingConfiguration"]["Level"],
            "includeExecutionData": request.properties["LoggingConfiguration"][
                "IncludeExecutionData"
            ],
            "destinations": [
                {
                    "cloudWatchLogsLogGroup": {
                        "logGroupArn": each["CloudWatchLogsLogGroup"]["LogGroupArn"]
                    }
                }
                for each in destinations
            ],
        },
    )
    backend = stepfunctions_parser_backends[request.account][request.region]
    for machine in backend.state_machines:
        if machine.arn == answer["stateMachineArn"]:
            return machine
    raise LocalCloudError(f"state machine {request.name} was not created")
