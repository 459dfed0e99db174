"""CloudWatch: metrics from an index, service metrics, and alarms evaluated by AWS's rules."""
