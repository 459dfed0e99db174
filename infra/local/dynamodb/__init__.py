"""DynamoDB: throttling at the provisioned capacity, and fast reads of many items."""
