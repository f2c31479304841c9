"""Measures the project's performance, and compares it with other systems.

These are a service with a semaphore, stock arq, LiteLLM's proxy, and a script with a semaphore.
"""
