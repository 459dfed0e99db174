"""SQS: how many messages wait in each queue, as CloudWatch is told."""

import threading

from ..cloudwatch.service_metrics import ServiceMetrics
from ..shared import Clients, log_and_continue

_POLL_SECONDS = 0.5
_WAITING = "ApproximateNumberOfMessages"


class Queues:
    """Looks at every queue again and again."""

    def __init__(self, clients: Clients, service_metrics: ServiceMetrics) -> None:
        self._clients = clients
        self._service_metrics = service_metrics

    def run(self, stopping: threading.Event) -> None:
        """Tell of the queues, until it is time to stop."""
        while not stopping.wait(_POLL_SECONDS):
            for url in self._clients("sqs").list_queues().get("QueueUrls", []):
                with log_and_continue(url):
                    self._tell_of(url)

    def _tell_of(self, url: str) -> None:
        held = self._clients("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=[_WAITING])
        self._service_metrics.record_queue_depth(
            url.rpartition("/")[2], int(held["Attributes"][_WAITING])
        )
