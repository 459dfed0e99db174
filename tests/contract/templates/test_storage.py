"""infra/storage.yaml: bucket, table, queue and topics."""

import re

import pytest

from infra.local.package import MAINTENANCE, STORAGE
from tests.conftest import Template
from tests.conftest import load_template as load

from .conftest import references


def test_the_bucket_is_private_and_encrypted_and_its_objects_expire() -> None:
    bucket = load(STORAGE)["Resources"]["DataBucket"]["Properties"]
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert bucket["BucketEncryption"]
    rules = {each.get("Prefix"): each for each in bucket["LifecycleConfiguration"]["Rules"]}
    for prefix in ("raw-metrics/", "processed/", "quarantine/"):
        (transition,) = rules[prefix]["Transitions"]
        assert transition == {"StorageClass": "STANDARD_IA", "TransitionInDays": 30}
        assert rules[prefix]["ExpirationInDays"] == {"Ref": "DataRetentionDays"}
    assert load(STORAGE)["Parameters"]["DataRetentionDays"]["Default"] == 90


def test_the_archive_does_not_expire() -> None:
    """Neither by its own rule nor by a rule for the whole bucket."""
    bucket = load(STORAGE)["Resources"]["DataBucket"]["Properties"]
    for rule in bucket["LifecycleConfiguration"]["Rules"]:
        if "archive/".startswith(rule.get("Prefix", "")):
            assert "ExpirationInDays" not in rule


def test_the_table_has_the_documented_keys_and_index() -> None:
    table = load(STORAGE)["Resources"]["MetricsTable"]["Properties"]
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert [each["AttributeName"] for each in table["KeySchema"]] == ["metric_id", "timestamp"]
    (index,) = table["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "metric_type-timestamp-index"
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}


@pytest.mark.parametrize("name", ["DataBucket", "MetricsTable"])
def test_data_outlives_its_stack(name: str) -> None:
    resource = load(STORAGE)["Resources"][name]
    assert resource["DeletionPolicy"] == "RetainExceptOnCreate"
    assert resource["UpdateReplacePolicy"] == "Retain"


def test_the_email_subscription_receives_messages_without_attributes() -> None:
    """CloudWatch's own messages have none, and a filter policy would drop them."""
    subscription = load(STORAGE)["Resources"]["EmailSubscription"]["Properties"]
    assert "FilterPolicy" not in subscription


def test_the_table_of_prod_has_deletion_protection_and_recovery() -> None:
    template = load(STORAGE)
    table = template["Resources"]["MetricsTable"]["Properties"]
    assert table["DeletionProtectionEnabled"] == {"Fn::If": ["IsProd", True, False]}
    assert template["Conditions"]["IsProd"] == {"Fn::Equals": [{"Ref": "Suffix"}, ""]}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_options_that_cost_money_are_off_by_default() -> None:
    parameters = load(STORAGE)["Parameters"]
    assert parameters["KmsKeyArn"]["Default"] == ""
    assert parameters["AuditTrail"]["Default"] == "false"


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("DataBucket", "s3:*"),
        ("AlarmTopic", "sns:Publish"),
        ("PageTopic", "sns:Publish"),
        ("DeadLetterQueue", "sqs:*"),
    ],
)
def test_requests_without_tls_are_denied(name: str, action: str) -> None:
    resources = load(STORAGE)["Resources"]
    (policy,) = [
        each["Properties"]["PolicyDocument"]
        for each in resources.values()
        if re.fullmatch("AWS::(S3|SNS|SQS)::.+Policy", each["Type"])
        and name in references(each["Properties"])
    ]
    (deny,) = [each for each in policy["Statement"] if each["Effect"] == "Deny"]
    assert (deny["Principal"], deny["Action"]) == ("*", action)
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_queue_and_the_topic_accept_only_services_of_this_account() -> None:
    resources = load(STORAGE)["Resources"]
    for name in ("AlarmTopicPolicy", "DeadLetterQueuePolicy"):
        (allow,) = [
            each
            for each in resources[name]["Properties"]["PolicyDocument"]["Statement"]
            if each["Effect"] == "Allow"
        ]
        assert set(allow["Principal"]) == {"Service"}
        account = allow["Condition"]["StringEquals"]["aws:SourceAccount"]
        assert account == {"Ref": "AWS::AccountId"}
        assert {"ArnLike", "ArnEquals"} & set(allow["Condition"])


def test_the_queue_accepts_exactly_the_rules_that_send_to_it(
    transformed: Template,
) -> None:
    queue = {"Fn::ImportValue": {"Fn::Sub": "InfraMonitoring-DeadLetterQueueArn${Suffix}"}}
    senders = [
        each["Properties"]["Name"]["Fn::Sub"]
        for template in (transformed, load(MAINTENANCE))
        for each in template["Resources"].values()
        if each["Type"] == "AWS::Events::Rule"
        for target in each["Properties"]["Targets"]
        if queue in (target["Arn"], target.get("DeadLetterConfig", {}).get("Arn"))
    ]
    policy = load(STORAGE)["Resources"]["DeadLetterQueuePolicy"]["Properties"]["PolicyDocument"]
    (allow,) = [each for each in policy["Statement"] if each["Effect"] == "Allow"]
    accepted = [each["Fn::Sub"] for each in allow["Condition"]["ArnEquals"]["aws:SourceArn"]]
    rules = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/"
    assert sorted(accepted) == sorted(f"{rules}{name}" for name in senders)
    assert len(senders) == 5
