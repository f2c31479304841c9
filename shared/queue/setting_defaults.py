"""Defines the defaults of the settings that decide how the queue serves items."""

INTERACTIVE_WEIGHT = 4  # interactive items that are served for each bulk item of the same owner
OUTAGE_WAIT_S: float = 86_400  # time for which an item waits for a provider that does not answer
