"""CloudFormation types that moto's CloudFormation lacks or takes only in part.

moto finds its types through `CloudFormationModel.__subclasses__()`, the last one of a name
winning. Each function here does what CloudFormation does for its type: it calls the
service's API with the resource's properties.
"""

import json
from collections.abc import Callable
from typing import Any

import boto3
import moto.cloudformation.parsing  # noqa: F401 - registers moto's own types before ours
from moto.core.common_models import CloudFormationModel
from moto.dynamodb.models.table import Table
from moto.s3.models import FakeBucket
from moto.stepfunctions.models import StateMachine
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from .errors import LocalCloudError

Properties = dict[str, Any]
ClientFactory = Callable[[str], Any]
# (clients, name, properties, account, region) -> the resource: its physical ID, or moto's model
Create = Callable[[ClientFactory, str, Properties, str, str], Any]

_endpoint = ""

# moto finds the classes through weak references, so something has to hold them.
_MODELS: list[type] = []


def use_endpoint(endpoint: str) -> None:
    """Where the APIs answer; resources are created through them."""
    global _endpoint
    _endpoint = endpoint


def _clients(region: str) -> ClientFactory:
    session = boto3.Session(
        region_name=region,
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - moto asks for none
    )
    factory: Any = session.client
    return lambda service: factory(service, endpoint_url=_endpoint)


def _resource_type(type_name: str, name_property: str = "") -> Callable[[Create], Create]:
    """Register a function that creates resources of a type."""

    def register(create: Create) -> Create:
        def create_from_cloudformation_json(
            cls: Any,
            resource_name: str,
            cloudformation_json: Any,
            account_id: str,
            region_name: str,
            **kwargs: Any,
        ) -> Any:
            properties = cloudformation_json.get("Properties", {})
            created = create(
                _clients(region_name), resource_name, properties, account_id, region_name
            )
            if not isinstance(created, str):
                return created
            resource = cls()
            resource.physical_resource_id = created
            return resource

        model = type(
            type_name.rpartition("::")[2],
            (CloudFormationModel,),
            {
                "__module__": __name__,
                "cloudformation_type": staticmethod(lambda: type_name),
                "cloudformation_name_type": staticmethod(lambda: name_property),
                "create_from_cloudformation_json": classmethod(create_from_cloudformation_json),
            },
        )
        _MODELS.append(model)
        return create

    return register


@_resource_type("AWS::S3::Bucket", "BucketName")
def _bucket(
    clients: ClientFactory, name: str, properties: Properties, account: str, region: str
) -> FakeBucket:
    bucket = FakeBucket.create_from_cloudformation_json(
        name, {"Properties": properties}, account, region
    )
    s3 = clients("s3")
    s3.put_bucket_versioning(
        Bucket=name, VersioningConfiguration=properties["VersioningConfiguration"]
    )
    s3.put_public_access_block(
        Bucket=name,
        PublicAccessBlockConfiguration=properties["PublicAccessBlockConfiguration"],
    )
    s3.put_bucket_lifecycle_configuration(
        Bucket=name,
        LifecycleConfiguration={
            "Rules": [_lifecycle(rule) for rule in properties["LifecycleConfiguration"]["Rules"]]
        },
    )
    notification = properties["NotificationConfiguration"]
    if notification["EventBridgeConfiguration"]["EventBridgeEnabled"]:
        s3.put_bucket_notification_configuration(
            Bucket=name, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )
    return bucket


def _lifecycle(rule: Properties) -> dict[str, Any]:
    """A lifecycle rule in the API's form, which nests what CloudFormation's has flat."""
    api = {
        "ID": rule["Id"],
        "Status": rule["Status"],
        "Filter": {"Prefix": rule.get("Prefix", "")},
        "Expiration": {"Days": rule["ExpirationInDays"]},
    }
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
def _bucket_policy(
    clients: ClientFactory, name: str, properties: Properties, account: str, region: str
) -> str:
    # Kept, not put: it denies what is not TLS, and loopback is plain HTTP.
    return f"{properties['Bucket']}-policy"


@_resource_type("AWS::DynamoDB::Table", "TableName")
def _table(
    clients: ClientFactory, name: str, properties: Properties, account: str, region: str
) -> Table:
    table = Table.create_from_cloudformation_json(
        name, {"Properties": properties}, account, region
    )
    dynamodb = clients("dynamodb")
    dynamodb.update_time_to_live(
        TableName=name, TimeToLiveSpecification=properties["TimeToLiveSpecification"]
    )
    dynamodb.update_continuous_backups(
        TableName=name,
        PointInTimeRecoverySpecification=properties["PointInTimeRecoverySpecification"],
    )
    return table


@_resource_type("AWS::SNS::Subscription")
def _subscription(
    clients: ClientFactory, name: str, properties: Properties, account: str, region: str
) -> str:
    answer = clients("sns").subscribe(
        TopicArn=properties["TopicArn"],
        Protocol=properties["Protocol"],
        Endpoint=properties["Endpoint"],
    )
    return str(answer["SubscriptionArn"])


@_resource_type("AWS::SQS::QueuePolicy")
def _queue_policy(
    clients: ClientFactory, name: str, properties: Properties, account: str, region: str
) -> str:
    policy = json.dumps(properties["PolicyDocument"])
    for url in properties["Queues"]:
        clients("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    return name


@_resource_type("AWS::Glue::Database")
def _glue_database(
    clients: ClientFactory, name: str, properties: Properties, account: str, region: str
) -> str:
    clients("glue").create_database(DatabaseInput=properties["DatabaseInput"])
    return str(properties["DatabaseInput"]["Name"])


@_resource_type("AWS::Glue::Table")
def _glue_table(
    clients: ClientFactory, name: str, properties: Properties, account: str, region: str
) -> str:
    clients("glue").create_table(
        DatabaseName=properties["DatabaseName"], TableInput=properties["TableInput"]
    )
    return str(properties["TableInput"]["Name"])


@_resource_type("AWS::Athena::WorkGroup", "Name")
def _work_group(
    clients: ClientFactory, name: str, properties: Properties, account: str, region: str
) -> str:
    clients("athena").create_work_group(
        Name=name,
        Description=properties["Description"],
        Configuration=properties["WorkGroupConfiguration"],
    )
    return name


@_resource_type("AWS::Lambda::EventInvokeConfig")
def _event_invoke_config(
    clients: ClientFactory, name: str, properties: Properties, account: str, region: str
) -> str:
    clients("lambda").put_function_event_invoke_config(
        FunctionName=properties["FunctionName"],
        MaximumRetryAttempts=properties["MaximumRetryAttempts"],
        DestinationConfig=properties["DestinationConfig"],
    )
    return name


@_resource_type("AWS::StepFunctions::StateMachine", "StateMachineName")
def _state_machine(
    clients: ClientFactory, name: str, properties: Properties, account: str, region: str
) -> StateMachine:
    destinations = properties["LoggingConfiguration"]["Destinations"]
    answer = clients("stepfunctions").create_state_machine(
        name=properties["StateMachineName"],
        type=properties["StateMachineType"],
        roleArn=properties["RoleArn"],
        definition=json.dumps(properties["Definition"]),
        loggingConfiguration={
            "level": properties["LoggingConfiguration"]["Level"],
            "includeExecutionData": properties["LoggingConfiguration"]["IncludeExecutionData"],
            "destinations": [
                {"cloudWatchLogsLogGroup": {"logGroupArn": each["CloudWatchLogsLogGroup"]["LogGroupArn"]}}
                for each in destinations
            ],
        },
    )
    backend = stepfunctions_parser_backends[account][region]
    for machine in backend.state_machines:
        if machine.arn == answer["stateMachineArn"]:
            return machine
    raise LocalCloudError(f"state machine {name} was not created")
