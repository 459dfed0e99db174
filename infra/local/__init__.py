"""The local cloud: runs what ships, on loopback, without Docker or an AWS account.

moto's server answers the AWS APIs; `resources` teaches its CloudFormation the types that it
lacks, `functions` runs the built zip under AWS's runtime client, `joints` carries events
between services, `athena` answers SQL. `cloud` puts them together.
"""

from functools import cache

import botocore.session

# Without this, every boto3 session lists and parses botocore's service models again.
botocore.session.create_loader = cache(botocore.session.create_loader)
