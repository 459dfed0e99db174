"""The one package that touches boto3: clients, retries, and botocore's errors made ours."""
