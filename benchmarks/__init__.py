"""Measures the project's performance, and compares it with a semaphore script and stock arq."""
