"""Adapters to AWS, the only package that imports boto3.

Each one implements a protocol of an application. `errors` translates botocore's errors, `clients`
holds the configuration of every client, `retry` the rule for repeated requests.
"""
