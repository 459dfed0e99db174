"""The API that docs/openapi.yaml describes: a module for each resource.

Only `routes` imports Chalice; the other modules are imported at the first request.
"""
