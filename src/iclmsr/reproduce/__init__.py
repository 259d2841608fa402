# SPDX-License-Identifier: Apache-2.0
"""The paper's table: its cells as run folders, and ours beside the paper's."""

from iclmsr.reproduce.cells import DATASETS, ROWS, Cell, Row, cells, row_named
from iclmsr.reproduce.collect import collect
from iclmsr.reproduce.runner import reproduce
from iclmsr.reproduce.summary import Line, Table, summarize
from iclmsr.reproduce.text import FORMATS

__all__ = [
    "DATASETS",
    "FORMATS",
    "ROWS",
    "Cell",
    "Line",
    "Row",
    "Table",
    "cells",
    "collect",
    "reproduce",
    "row_named",
    "summarize",
]
