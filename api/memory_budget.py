"""Divides API_MEMORY_BYTES between requests and results: see shared/memory_budget.py."""

MEMORY = "orchestrator.memory"  # key in the ASGI scope: the reservation of the request
PAGES_SHARE = 6  # pages of results have 1/6 of API_MEMORY_BYTES, bodies of requests the rest
