"""Prints the linked source of a Lua script: `python -m shared.queue settle_and_claim`.

The number in an error of Redis such as `user_script:178` is a line of this source.
"""

import sys

from shared.queue.redis_keys import Keys
from shared.queue.scripts import assemble

if __name__ == "__main__":
    sys.stdout.write(f"{assemble(Keys(), sys.argv[1])}\n")
