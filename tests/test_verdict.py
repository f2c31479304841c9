"""Compares the names of the verdicts in the scripts with the verdicts that workers send."""

import re
from importlib.resources import files

from shared.queue.verdict import Verdict

LIB = files("shared.queue").joinpath("lua", "lib")
TABLE = re.compile(r"\b([A-Z_]+)\[[\w.]*\bverdict\]")  # such as REFUSALS[fault.verdict]
COMPARED = re.compile(r"\bverdict [=~]= (?:'(\w+)'|([A-Z_]+))")


def test_the_scripts_distinguish_all_verdicts_and_no_others() -> None:
    """A name that no worker sends would be a rule that never applies."""
    source = "\n".join(part.read_text() for part in LIB.iterdir())
    compared = COMPARED.findall(source)
    names = [name for name, _ in compared if name]
    for table in set(TABLE.findall(source)):
        [entries] = re.findall(rf"local {table} = {{([^}}]*)}}", source)
        names += re.findall(r"(\w+) = true", entries)
    for constant in {constant for _, constant in compared if constant}:
        names += re.findall(rf"local {constant} = '(\w+)'", source)

    # What no rule names is a failure that may pass: see record_transient in pauses.lua.
    assert set(names) == set(Verdict) - {Verdict.TRANSIENT}
