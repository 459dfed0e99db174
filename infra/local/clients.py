"""boto3 clients for the local cloud."""

from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config
from botocore.credentials import Credentials

REGION = "eu-west-1"

# Credentials that belong to no role have every permission.
ADMINISTRATOR = Credentials("local", "local")

# (service) -> a client with the administrator's credentials;
# (service, role ARN) -> a client with the role's credentials
Clients = Callable[..., Any]


def create_client(service: str, endpoint: str, credentials: Credentials = ADMINISTRATOR) -> Any:
    """Create a boto3 client for a local cloud, with the administrator's credentials by default."""
    session = boto3.Session(
        region_name=REGION,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        aws_session_token=credentials.token,
    )
    factory: Any = session.client
    config = Config(retries={"total_max_attempts": 1}, read_timeout=300, max_pool_connections=50)
    return factory(service, endpoint_url=endpoint, config=config)
