"""Step Functions: Distributed Map, the Athena integration, and logs and events of executions."""
