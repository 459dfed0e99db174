"""CloudFormation resource types that moto lacks or supports only in part.

moto finds resource types through `CloudFormationModel.__subclasses__()`; the last class of a type
wins. Each function here creates a resource as CloudFormation does: it calls the service's API
with the resource's properties.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moto.cloudformation import parsing  # registers moto's types before those below
from moto.core.common_models import CloudFormationModel
from moto.dynamodb.models.table import Table
from moto.iam.models import Role
from moto.s3.models import FakeBucket
from moto.stepfunctions.models import StateMachine
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from ..clients import Clients
from ..errors import LocalCloudError

Properties = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A resource to create; `name` is its name property or a generated name."""

    clients: Clients
    name: str
    properties: Properties
    account: str
    region: str


# Returns the resource's physical ID, or moto's model of the resource.
Create = Callable[[CreateRequest], Any]

_TYPES: list[tuple[str, str, Create]] = []


def install(clients: Clients) -> list[type]:
    """Register the resource types below with moto.

    Keep a reference to the returned classes: moto finds them only while they exist.
    """
    models = [_model(clients, *each) for each in _TYPES]
    # moto caches the types; a second cloud in the same process would use those of the first.
    for cached in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map):
        cached.cache_clear()
    return models


def _model(clients: Clients, type_name: str, name_property: str, create: Create) -> type:
    def create_from_cloudformation_json(
        cls: Any,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> Any:
        properties = cloudformation_json.get("Properties", {})
        created = create(CreateRequest(clients, resource_name, properties, account_id, region_name))
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
    """Register a function that creates resources of a type; `name_property` has their names."""

    def register(create: Create) -> Create:
        _TYPES.append((type_name, name_property, create))
        return create

    return register


@_resource_type("AWS::S3::Bucket", "BucketName")
def _bucket(request: CreateRequest) -> FakeBucket:
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
    """Convert a lifecycle rule from CloudFormation's flat form to the API's nested one."""
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
    for name in ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"):
        if name in rule:
            api[name] = rule[name]
    return api


@_resource_type("AWS::S3::BucketPolicy")
def _bucket_policy(request: CreateRequest) -> str:
    # Not applied: the policy denies requests without TLS, and loopback uses plain HTTP.
    return f"{request.properties['Bucket']}-policy"


@_resource_type("AWS::DynamoDB::Table", "TableName")
def _table(request: CreateRequest) -> Table:
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
def _role(request: CreateRequest) -> Role:
    role = Role.create_from_cloudformation_json(
        request.name, {"Properties": request.properties}, request.account, request.region
    )
    # moto ignores managed policies of a role.
    for arn in request.properties.get("ManagedPolicyArns", []):
        request.clients("iam").attach_role_policy(RoleName=role.name, PolicyArn=arn)
    return role


@_resource_type("AWS::SNS::Subscription")
def _subscription(request: CreateRequest) -> str:
    response = request.clients("sns").subscribe(
        TopicArn=request.properties["TopicArn"],
        Protocol=request.properties["Protocol"],
        Endpoint=request.properties["Endpoint"],
    )
    return str(response["SubscriptionArn"])


@_resource_type("AWS::SNS::TopicPolicy")
def _topic_policy(request: CreateRequest) -> str:
    policy = json.dumps(request.properties["PolicyDocument"])
    for arn in request.properties["Topics"]:
        request.clients("sns").set_topic_attributes(
            TopicArn=arn, AttributeName="Policy", AttributeValue=policy
        )
    return request.name


@_resource_type("AWS::SQS::QueuePolicy")
def _queue_policy(request: CreateRequest) -> str:
    policy = json.dumps(request.properties["PolicyDocument"])
    for url in request.properties["Queues"]:
        request.clients("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    return request.name


@_resource_type("AWS::Glue::Database")
def _glue_database(request: CreateRequest) -> str:
    request.clients("glue").create_database(DatabaseInput=request.properties["DatabaseInput"])
    return str(request.properties["DatabaseInput"]["Name"])


@_resource_type("AWS::Glue::Table")
def _glue_table(request: CreateRequest) -> str:
    request.clients("glue").create_table(
        DatabaseName=request.properties["DatabaseName"], TableInput=request.properties["TableInput"]
    )
    return str(request.properties["TableInput"]["Name"])


@_resource_type("AWS::Athena::WorkGroup", "Name")
def _work_group(request: CreateRequest) -> str:
    request.clients("athena").create_work_group(
        Name=request.name,
        Description=request.properties["Description"],
        Configuration=request.properties["WorkGroupConfiguration"],
    )
    return request.name


@_resource_type("AWS::Athena::NamedQuery")
def _named_query(request: CreateRequest) -> str:
    response = request.clients("athena").create_named_query(
        Name=request.properties["Name"],
        Description=request.properties["Description"],
        Database=request.properties["Database"],
        QueryString=request.properties["QueryString"],
        WorkGroup=request.properties["WorkGroup"],
    )
    return str(response["NamedQueryId"])


@_resource_type("AWS::Lambda::EventInvokeConfig")
def _event_invoke_config(request: CreateRequest) -> str:
    request.clients("lambda").put_function_event_invoke_config(
        FunctionName=request.properties["FunctionName"],
        MaximumRetryAttempts=request.properties["MaximumRetryAttempts"],
        DestinationConfig=request.properties["DestinationConfig"],
    )
    return request.name


@_resource_type("AWS::CloudWatch::Alarm", "AlarmName")
def _alarm(request: CreateRequest) -> str:
    request.clients("cloudwatch").put_metric_alarm(**_numbers(request.properties))
    return request.name


@_resource_type("AWS::CloudWatch::CompositeAlarm", "AlarmName")
def _composite_alarm(request: CreateRequest) -> str:
    request.clients("cloudwatch").put_composite_alarm(**request.properties)
    return request.name


_NUMBER_TYPES: dict[str, type[float]] = {
    "DatapointsToAlarm": int,
    "EvaluationPeriods": int,
    "Period": int,
    "Threshold": float,
}


def _numbers(value: Any, name: str = "") -> Any:
    """Convert the values of Number parameters, which CloudFormation passes as strings."""
    if isinstance(value, dict):
        return {key: _numbers(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    return _NUMBER_TYPES[name](value) if name in _NUMBER_TYPES else value


@_resource_type("AWS::Logs::QueryDefinition")
def _query_definition(request: CreateRequest) -> str:
    # Not created: moto does not support query definitions.
    return str(request.properties["Name"])


def _definition(properties: Properties) -> str:
    """Return the definition as JSON with CloudFormation's substitutions."""
    definition = json.dumps(properties["Definition"])
    for name, value in properties.get("DefinitionSubstitutions", {}).items():
        definition = definition.replace(f"${{{name}}}", value)
    return definition


@_resource_type("AWS::StepFunctions::StateMachine", "StateMachineName")
def _state_machine(request: CreateRequest) -> StateMachine:
    destinations = request.properties["LoggingConfiguration"]["Destinations"]
    response = request.clients("stepfunctions").create_state_machine(
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
        if machine.arn == response["stateMachineArn"]:
            return machine
    raise LocalCloudError(f"state machine {request.name} was not created")
