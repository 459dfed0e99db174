"""The agent: measures its host and pushes the records to S3.

It imports chalicelib and boto3, and nothing of the local cloud.
"""
