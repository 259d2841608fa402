# SPDX-License-Identifier: Apache-2.0
"""``iclmsr recipes``: the named configs."""

from iclmsr.options import asks_help, only, usage


def recipes_command(words: list[str]) -> None:
    """List the recipes, or print one whole: iclmsr recipes [NAME]."""
    if asks_help(words):
        print(usage(recipes_command))
        return
    import json

    from rich.console import Console
    from rich.table import Table

    from iclmsr.config import encode
    from iclmsr.recipes import RECIPES, recipe

    if words:
        only(words, 1)
        print(json.dumps(encode(recipe(words[0]).config), indent=1))
        return
    table = Table(title="recipes", caption="expected: linear / 5-nn top-1, percent")
    for column in ("name", "source", "cost", "expected"):
        table.add_column(column, no_wrap=column in ("name", "expected"))
    for name, value in RECIPES.items():
        table.add_row(name, value.source, value.cost, value.expected)
    Console().print(table)
