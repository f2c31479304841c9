"""Simulates LLM providers for tests, demos, fault tests and benchmarks.

One server supports all dialects in `dialects.py`. It answers a chat with the last message:
`echo: …`; or with a tool call, if the request has tools and the message asks for a tool call:
`call weather {"a": 1}`. Faults come from a `Behaviour`, or from the model's name (`sim-status-400`,
`sim-hang`, `sim-429x2`; see `faults.parse_model`). A `Behaviour` also sets outages, limits,
budgets, windows, slots and load times: for all calls, for a dialect or for a model. Calls are
counted per dialect, item, model and key. The hash of the last message identifies the item.
docs/reference/command-line.md lists all fields.

    POST …/chat/completions, …/responses, …/embeddings, …/api/chat, …/v1/messages,
         …/models/{model}:generateContent
    GET /_sim/{stats,ledger,last,received,config}, POST /_sim/reset, PUT /_sim/config
"""

from cli.simulator.behaviour import Behaviour
from cli.simulator.server import Simulator

__all__ = ["Behaviour", "Simulator"]
