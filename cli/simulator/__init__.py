"""A simulated LLM provider for tests, demos, fault tests and benchmarks.

It speaks every dialect in `dialects.py` at once and answers with the last message: `echo: …`.
Faults come from a `Behaviour`, as rates, or from the model's name (`sim-status-400`, `sim-hang`,
`sim-429x2`; see `faults.parse_model`). Calls are counted by item, which is the hash of the last
message.

    POST …/chat/completions, POST …/api/chat
    GET /_sim/{stats,ledger,last,config}, POST /_sim/reset, PUT /_sim/config
"""

from cli.simulator.behaviour import Behaviour
from cli.simulator.server import Simulator

__all__ = ["Behaviour", "Simulator"]
