"""A fake LLM provider for tests, demos, fault tests and benchmarks; speaks OpenRouter and Ollama.

The last message comes back as `echo: …`. What goes wrong is set by a `Behaviour` (rates) or by the
model's name (`sim-status-400`, `sim-hang`, `sim-429x2`; see `plan.parse_model`). Every call is
counted under its item, the hash of the last message.

    POST …/chat/completions, POST /api/chat
    GET /_sim/{stats,ledger,last,config}, POST /_sim/reset, PUT /_sim/config
"""

from cli.simulator.behaviour import Behaviour
from cli.simulator.server import Simulator

__all__ = ["Behaviour", "Simulator"]
