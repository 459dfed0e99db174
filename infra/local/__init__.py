"""Local cloud: deploys the app to moto and runs it on loopback, without Docker or an AWS account.

Each sub-package emulates the behaviour of one AWS service that moto lacks. `cloud` starts moto's
server, installs these parts and deploys the stacks; `wiring` delivers events between services.
"""

from functools import cache

import botocore.session

# Without this, every boto3 session lists and parses botocore's service models again.
botocore.session.create_loader = cache(botocore.session.create_loader)
