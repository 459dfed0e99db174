"""Business logic of the infrastructure-monitoring pipeline; knows nothing of Chalice.

Imports point one way: the pure modules (`records`, `windows`, `enrichment`, `items`, `lines`,
`settings`, ...) import no AWS SDK; the use cases (`collector` with `planning`, `processor` with
`writing`) speak to a store through a protocol; `aws` is the one module that touches boto3.

An object's way through `log-processor`: `unpacking` its bytes, `parsing` them into records and
rejected pieces, `refusal` of what is none to store, `batches`, `enrichment`, and `writing` under
`names` that repeat.
"""

__version__ = "0.1.0"
