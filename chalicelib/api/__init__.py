"""The API: what requests ask for, and what they are answered. docs/openapi.yaml describes it.

`routes` alone knows of Chalice, and what else is here is imported at the first request.
"""
