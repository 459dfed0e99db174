"""The agent: measures its host and pushes the records to S3. Needs boto3 and what ships."""
