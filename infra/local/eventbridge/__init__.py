"""EventBridge: delivery to Lambda functions and state machines, and scheduled rules."""
