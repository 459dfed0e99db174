"""Permissions that AWS requires and the local cloud does not use, with the reasons."""

from dataclasses import dataclass

from infra.local.iam.policies import Grant
from tests.conftest import BUCKET
from tests.support.pipeline_modes import (
    API,
    COLLECTOR,
    COMPACTION,
    NOTIFIER,
    ORCHESTRATOR,
    PROCESSOR,
    REPLAY,
)


@dataclass(frozen=True)
class Unseen:
    """Permissions that AWS requires and the local cloud does not use."""

    roles: tuple[str, ...]
    actions: tuple[str, ...]
    resource: str
    reason: str

    def covers(self, role: str, use: Grant) -> bool:
        return role in self.roles and use.action in self.actions and self.resource in use.resource


# A Distributed Map uses these on AWS only: it starts child executions and writes results in parts.
CHILDREN = ("states:StartExecution", "states:DescribeExecution", "states:StopExecution")
PARTS = ("s3:ListMultipartUploadParts", "s3:AbortMultipartUpload")

UNSEEN = (
    Unseen(
        roles=(ORCHESTRATOR,),
        actions=CHILDREN,
        resource=f"{ORCHESTRATOR}",
        reason="a Distributed Map starts child executions; moto runs them in threads:"
        " https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html",
    ),
    Unseen(
        roles=(ORCHESTRATOR,),
        actions=PARTS,
        resource="/plans/*",
        reason="a Map Run writes large results in parts; moto does not:"
        " https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html",
    ),
    Unseen(
        roles=(ORCHESTRATOR,),
        actions=("s3:GetObject", "s3:PutObject"),
        resource="/plans/*",
        reason="used by a fleet of many chunks, in test_large_fleet.py:"
        " test_a_map_run_reads_plans_and_writes_results_itself",
    ),
    Unseen(
        roles=(REPLAY,),
        actions=CHILDREN,
        resource=f"{REPLAY}",
        reason="as above, for the Map Runs of the replay",
    ),
    Unseen(
        roles=(REPLAY,),
        actions=("s3:GetObject", *PARTS),
        resource="/plans/replays/*",
        reason="as above: a Map Run writes large results in parts",
    ),
    Unseen(
        roles=(COMPACTION,),
        actions=("athena:StopQueryExecution",),
        resource="workgroup/infra-monitoring",
        reason="Step Functions stops the query of an execution that is stopped or times out:"
        " https://docs.aws.amazon.com/step-functions/latest/dg/connect-athena.html",
    ),
    Unseen(
        roles=(COMPACTION,),
        actions=("athena:GetDataCatalog",),
        resource="datacatalog/AwsDataCatalog",
        reason="part of the policy that Step Functions documents for Athena; moto has one catalog:"
        " https://docs.aws.amazon.com/step-functions/latest/dg/connect-athena.html",
    ),
    Unseen(
        roles=(COMPACTION,),
        actions=(
            "glue:BatchCreatePartition",
            "glue:GetDatabase",
            "glue:GetPartition",
            "glue:GetPartitions",
        ),
        resource=":glue:",
        reason="Athena calls Glue for an INSERT INTO; DuckDB does not:"
        " https://docs.aws.amazon.com/athena/latest/ug/fine-grained-access-to-glue-resources.html",
    ),
    Unseen(
        roles=(COMPACTION,),
        actions=("s3:GetBucketLocation", "s3:ListBucketMultipartUploads"),
        resource=BUCKET,
        reason="part of the policy that Step Functions documents for Athena:"
        " https://docs.aws.amazon.com/step-functions/latest/dg/connect-athena.html",
    ),
    Unseen(
        roles=(COMPACTION,),
        actions=("s3:GetObject", *PARTS),
        resource="/athena-results/*",
        reason="GetQueryResults reads the object of the results; Athena writes large ones in parts;"
        " the local cloud keeps them in memory and writes them at once",
    ),
    Unseen(
        roles=(COMPACTION,),
        actions=("s3:GetObject", *PARTS),
        resource="/archive/*",
        reason="as above, for Parquet; Athena may also check whether an object exists",
    ),
    Unseen(
        roles=(ORCHESTRATOR, REPLAY, COMPACTION),
        actions=(
            "logs:CreateLogDelivery",
            "logs:DeleteLogDelivery",
            "logs:DescribeLogGroups",
            "logs:DescribeResourcePolicies",
            "logs:GetLogDelivery",
            "logs:ListLogDeliveries",
            "logs:PutResourcePolicy",
            "logs:UpdateLogDelivery",
        ),
        resource="*",
        reason="Step Functions configures its logging with them, all on `*`:"
        " https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html",
    ),
    Unseen(
        roles=(COLLECTOR, PROCESSOR, NOTIFIER, API, ORCHESTRATOR),
        actions=("xray:PutTraceSegments", "xray:PutTelemetryRecords"),
        resource="*",
        reason="Lambda and Step Functions send traces; the local cloud has no X-Ray:"
        " https://docs.aws.amazon.com/lambda/latest/dg/services-xray.html",
    ),
    Unseen(
        roles=(ORCHESTRATOR,),
        actions=("xray:GetSamplingRules", "xray:GetSamplingTargets"),
        resource="*",
        reason="Step Functions reads which executions to trace:"
        " https://docs.aws.amazon.com/step-functions/latest/dg/xray-iam.html",
    ),
    Unseen(
        roles=(COLLECTOR, PROCESSOR, NOTIFIER, API),
        actions=("logs:CreateLogStream", "logs:PutLogEvents"),
        resource="log-group:/aws/lambda/infra-monitoring-",
        reason="names used by `chalice deploy`: test_functions_of_chalice_deploy_can_write_logs",
    ),
    Unseen(
        roles=(API,),
        actions=("glue:GetDatabase", "s3:GetBucketLocation"),
        resource="",
        reason="Athena locates data with the permissions of its caller; the local cloud does not:"
        " https://docs.aws.amazon.com/athena/latest/ug/fine-grained-access-to-glue-resources.html",
    ),
    Unseen(
        roles=(API,),
        actions=("s3:GetObject", *PARTS),
        resource="/athena-results/*",
        reason="Athena writes large results in parts and reads them with its caller's permissions:"
        " https://docs.aws.amazon.com/athena/latest/ug/querying.html",
    ),
    Unseen(
        roles=(PROCESSOR,),
        actions=("lambda:InvokeFunction",),
        resource="function:infra-monitoring-",
        reason="name used by `chalice deploy`:"
        " test_the_processor_of_chalice_deploy_can_invoke_itself",
    ),
)


def unseen(role: str, use: Grant) -> bool:
    # The name of the API starts like the names used by `chalice deploy`, but it is used here.
    if use.resource.endswith("/infra-monitoring-api*"):
        return False
    return any(each.covers(role, use) for each in UNSEEN)
