"""SQS: the queue depth metrics that the service reports to CloudWatch."""
