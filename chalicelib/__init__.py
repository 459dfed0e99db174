"""Business logic of the infrastructure monitoring pipeline, independent of Chalice.

`model` is pure. `collect`, `process`, `notify` and `api` are the four applications; they do not
import each other. `telemetry` has their metrics and logs, `aws` the adapters that implement their
protocols with boto3. tests/unit/test_architecture.py checks these rules.
"""

__version__ = "0.1.0"
