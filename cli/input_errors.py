"""Defines the errors of an input of `orchestrator submit`.

InputError            The input is not valid.
└── WrongArguments    The arguments do not fit the input.
"""


class InputError(Exception):
    """The input is not valid. `str(error)` says why and, if one line is wrong, names the line."""


class WrongArguments(InputError):
    """The arguments do not fit the input. `str(error)` names what to add or to leave out."""
