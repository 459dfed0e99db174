"""Queue depths as CloudWatch metrics."""

import threading

from ..background import log_and_continue
from ..clients import Clients
from ..cloudwatch.service_metrics import ServiceMetrics

_POLL_SECONDS = 0.5
_DEPTH = "ApproximateNumberOfMessages"


class Queues:
    """Polls every queue and records its depth."""

    def __init__(self, clients: Clients, service_metrics: ServiceMetrics) -> None:
        self._clients = clients
        self._service_metrics = service_metrics

    def run(self, stopping: threading.Event) -> None:
        """Record the depth of every queue until `stopping` is set."""
        while not stopping.wait(_POLL_SECONDS):
            for url in self._clients("sqs").list_queues().get("QueueUrls", []):
                with log_and_continue(url):
                    self._record_depth(url)

    def _record_depth(self, url: str) -> None:
        response = self._clients("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=[_DEPTH])
        visible = int(response["Attributes"][_DEPTH])
        self._service_metrics.record_queue_depth(url.rpartition("/")[2], visible)
