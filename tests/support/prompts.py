"""Makes prompts in several scripts, whose numbers of tokens per byte differ."""

import base64
import json
import random

ENGLISH = "The workers take a request out of the queue only when its call may run. "
JAPANESE = "待ち行列から取り出される要求は、上限の内で実行できるものだけです。"


def prompts(count: int, seed: int = 15) -> list[str]:
    """Returns English, Japanese, JSON and base64 of 20 to 300 tokens each, in random order."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        size = rng.randint(1, 8)
        found.append(
            rng.choice(
                [
                    ENGLISH * size,
                    JAPANESE * size,
                    json.dumps([{"id": n, "value": n * 7.25, "ok": True} for n in range(size * 2)]),
                    base64.b64encode(rng.randbytes(30 * size)).decode(),
                ]
            )
            + f" {number}"
        )
    return found
