"""Measures the project's promises in figures, beside a semaphore script and stock arq."""
