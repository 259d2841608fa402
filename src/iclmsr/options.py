# SPDX-License-Identifier: Apache-2.0
"""Words of the command line as values; the only module that knows tyro."""

import argparse
import contextlib
import dataclasses
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from iclmsr.errors import IclmsrError, nearest

Config = TypeVar("Config")
Verb = Callable[[list[str]], None]
"""Takes the words after its name."""


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print."""
        raise IclmsrError(message)


def parse_options(kind: type[Config], default: Config, words: Sequence[str]) -> Config:
    """``default`` with the options in ``words``; every typed field of ``kind`` is an option.

    Raises:
        IclmsrError: An unknown option, or a value that its field does not take.
    """
    import tyro

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            config, unknown = tyro.cli(
                kind,
                default=default,
                args=list(words),
                prog="iclmsr",
                description="",
                return_unknown_args=True,
                config=(tyro.conf.AvoidSubcommands,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise IclmsrError(_first_sentence(said.getvalue())) from None
    if unknown:
        word = unknown[0].partition("=")[0]
        what = "option" if word.startswith("-") else "argument"
        raise IclmsrError(f"unknown {what} {word!r}: {nearest(word, _option_names(default))}")
    return config


def separated(
    config: Any, other: Any, words: Sequence[str], *, less: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """Words that are options of one config and not of another, with their values; and the rest.

    Args:
        config: Whose options are taken.
        other: Whose options stay in the rest, even if both have them.
        words: Of the command line.
        less: Further options that stay.
    """
    kept = {*_option_names(other), *less}
    parser = Parser(add_help=False, allow_abbrev=False)
    for name in _option_names(config):
        if name not in kept:
            parser.add_argument(name, dest=name, nargs="*")
    known, rest = parser.parse_known_args(words)
    given = {name: values for name, values in vars(known).items() if values is not None}
    return [word for name, values in given.items() for word in (name, *values)], rest


def asks_help(words: Sequence[str]) -> bool:
    """Whether the user wants to read instead of run."""
    return "-h" in words or "--help" in words


def usage(verb: Verb) -> str:
    """A verb's docstring as help text."""
    text = verb.__doc__ or ""
    return "\n".join(line.removeprefix("    ") for line in text.strip().splitlines()) + "\n"


def listing(
    usage: str,
    verbs: Mapping[str, Verb],
    about: str = "",
    more: str = "COMMAND --help says more.",
) -> str:
    """Help text: every verb and the first line of its docstring."""
    lines = [
        f"  {name:10} {(verb.__doc__ or '').strip().splitlines()[0]}"
        for name, verb in verbs.items()
    ]
    parts = [f"usage: iclmsr {usage}", about, "\n".join(lines), more]
    return "\n\n".join(filter(None, parts))


def group(name: str, commands: Mapping[str, Verb], words: list[str]) -> None:
    """Runs ``iclmsr NAME COMMAND ...``, or lists the commands."""
    if not words or words[0] in ("-h", "--help"):
        print(listing(f"{name} COMMAND ...", commands))
    elif words[0] not in commands:
        raise IclmsrError(f"unknown command '{name} {words[0]}': {nearest(words[0], commands)}")
    elif asks_help(words):
        print(usage(commands[words[0]]))
    else:
        commands[words[0]](words[1:])


def out_option(words: Sequence[str], default: Path) -> Path:
    """The value of --out, the only option there is."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=default)
    known, rest = parser.parse_known_args(words)
    only(rest, 0)
    out: Path = known.out
    return out


def only(words: Sequence[str], count: int) -> None:
    """Refuses words beyond the first ``count``."""
    if len(words) > count:
        raise IclmsrError(f"unknown argument {words[count]!r}: --help says what there is")


def _option_names(config: Any, prefix: str = "--") -> list[str]:
    """Every option that the fields of a config make."""
    names = []
    for field in dataclasses.fields(config):
        option = prefix + field.name.replace("_", "-")
        value = getattr(config, field.name)
        nested = dataclasses.is_dataclass(value)
        names += _option_names(value, f"{option}.") if nested else [option]
    return names


def _first_sentence(box: str) -> str:
    """What tyro says in the box that it draws, up to the first rule, on one line."""
    lines = [line.strip("│╭╮╰╯ \t") for line in box.splitlines() if line.strip()]
    body: list[str] = []
    for line in lines:
        if re.fullmatch("─*", line):
            break
        if "─" not in line:
            body.append(line)
    return " ".join(body) or "the options could not be read"
