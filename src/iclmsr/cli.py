# SPDX-License-Identifier: Apache-2.0
"""The command line: ``iclmsr VERB ...``; what a verb does is in ``commands``."""

import errno
import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from iclmsr import __version__
from iclmsr.commands.data import data_command
from iclmsr.commands.demo import demo_command
from iclmsr.commands.embed import embed_command, search_command
from iclmsr.commands.evaluate import evaluate_command
from iclmsr.commands.export import export_command
from iclmsr.commands.masks import mask_command
from iclmsr.commands.pretrain import pretrain_command
from iclmsr.commands.recipes import recipes_command
from iclmsr.commands.report import report_command
from iclmsr.commands.reproduce import reproduce_command
from iclmsr.commands.runs import runs_command
from iclmsr.commands.scm import scm_command
from iclmsr.commands.study import study_command
from iclmsr.errors import Elsewhere, IclmsrError, nearest
from iclmsr.options import Verb, listing

SHOWN = 100
"""Characters of an error of another library."""
VERBS: dict[str, Verb] = {
    "pretrain": pretrain_command,
    "evaluate": evaluate_command,
    "study": study_command,
    "export": export_command,
    "embed": embed_command,
    "search": search_command,
    "data": data_command,
    "recipes": recipes_command,
    "reproduce": reproduce_command,
    "runs": runs_command,
    "report": report_command,
    "masks": mask_command,
    "scm": scm_command,
    "demo": demo_command,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: Words after ``iclmsr``; those of the process when None.

    Returns:
        The exit code: 0, 2 for what the user can mend, 128 + n after signal n.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # names of any alphabet on any terminal
                stream.reconfigure(errors="backslashreplace")
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            _run(words)
    except Elsewhere as error:
        return error.exit_code
    except IclmsrError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has read enough
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for Python's last flush
        return 0
    except (MemoryError, RuntimeError) as error:
        if debug or not _is_memory(error):
            raise
        print(
            f"error: out of memory ({' '.join(str(error).split())[:SHOWN]}): a smaller "
            "--batch-size, --views.size or --data.image-size takes less",
            file=sys.stderr,
        )
        return 2
    except OSError as error:
        if debug:
            traceback.print_exc()
        where = f" {error.filename}" if error.filename else ""
        if where and error.errno in (errno.EACCES, errno.EPERM):
            where += ": make it readable, or name another place"
        print(f"error: {error.strerror or error}:{where}", file=sys.stderr)
        return 2
    return 0


def _run(words: list[str]) -> None:
    """Finds the verb and calls it."""
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
    elif words[0] == "--version":
        print(f"iclmsr {__version__}")
    elif words[0] in VERBS:
        VERBS[words[0]](words[1:])
    else:
        raise IclmsrError(f"unknown command {words[0]!r}: {nearest(words[0], VERBS)}")


def _overview() -> str:
    """The help text of the bare command: every verb and the first line of its docstring."""
    return listing(
        "COMMAND ... [--debug]",
        VERBS,
        "Self-supervised pretraining of image encoders that do not lean on the background.",
        "iclmsr COMMAND --help says more; --debug shows the traceback of an error.",
    )


def _is_memory(error: Exception) -> bool:
    """Whether there was no room for a tensor or an array, on whatever device."""
    torchs = type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error)
    return isinstance(error, MemoryError) or torchs


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as one line on standard error."""
    print(f"warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
