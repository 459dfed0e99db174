"""Business logic of the infrastructure-monitoring pipeline; knows nothing of Chalice.

Imports point one way: the pure modules (`records`, `windows`, `parsing`, `enrichment`,
`items`, `lines`, `settings`) import no AWS SDK; the use cases (`collector`, `processor`)
speak to a store through a protocol; `aws` is the one module that touches boto3.
"""

__version__ = "0.1.0"
