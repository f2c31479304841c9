"""Defines the classes of commands and command groups, with examples and exit codes in the help."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from shared.terminal_text import visible

# The exit codes of commands that start processes, show or change something, or follow a job.
STARTS = {0: "stopped by the user", 1: "the processes could not start, or the settings are wrong"}
SHOWS = {
    0: "success",
    1: "the input is wrong, or the API refused the request or cannot be reached",
    2: "wrong arguments",
}
FOLLOWS = {
    **SHOWS,
    3: "the job has ended, but not every request was answered",
    130: "interrupted; the job continues",
}


def epilog(*examples: str, codes: Mapping[int, str] = SHOWS) -> str:
    """Returns the end of a command's help: examples and the exit codes."""
    lines = [
        "Examples",
        *(f"  $ {example}" for example in examples),
        "",
        "Exit codes",
        *(f"  {code:<4} {meaning}" for code, meaning in codes.items()),
    ]
    return "\n".join(lines)


class _Help:
    """Prints typer's help without the types of arguments and flags, and then the epilog unchanged.

    Visible escapes replace control characters in the message of an error.
    """

    help: str | None
    epilog: str | None

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 — typer hides its types
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if isinstance(parameter, TyperOption) and parameter.is_flag:
                parameter.metavar = ""
            elif isinstance(parameter, TyperArgument):
                parameter.display_type_rich = _no_type  # type: ignore[method-assign]
        return parameters

    def make_context(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Parses the arguments, and returns their context.

        Replaces control characters in the message of an error, because an argument may be the name
        of a stranger's file.
        """
        try:
            return super().make_context(*args, **options)  # type: ignore[misc]
        except Exception as error:
            if isinstance(message := getattr(error, "message", None), str):
                error.message = visible(message)  # type: ignore[attr-defined]
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        paragraphs, epilog = self.help, self.epilog
        # typer would keep the line breaks of the docstring.
        joined = [" ".join(text.split()) for text in (paragraphs or "").split("\n\n")]
        self.help, self.epilog = "\n\n".join(joined), None
        try:
            super().format_help(ctx, formatter)  # type: ignore[misc]
        finally:
            self.help, self.epilog = paragraphs, epilog
        if epilog:
            # typer prints its help itself. Then click prints the text in the formatter.
            formatter.write("\n".join(f" {line}".rstrip() for line in epilog.splitlines()) + "\n")


class Group(_Help, TyperGroup):
    """Groups commands, and prints help as `_Help` does."""


class Command(_Help, TyperCommand):
    """Refuses an option that is given more than once, unless the option may be repeated.

    typer would use the last value.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        for parameter, count in Counter(order).items():
            if count > 1 and isinstance(parameter, TyperOption) and not parameter.multiple:
                ctx.fail(f"Option '{max(parameter.opts, key=len)}' is given {count} times.")
        return super().parse_args(ctx, args)


def _no_type(ctx: object) -> None:
    del ctx
