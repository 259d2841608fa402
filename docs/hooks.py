# SPDX-License-Identifier: Apache-2.0
"""What the documentation site needs beyond Markdown: pages from elsewhere, and from the source."""

import ast
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
BESIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/RESULTS.md")
"""Pages that lie outside docs/ because people look for them there."""
FOLDERS = ("how-to", "reference")
"""Folders whose pages need not be named in mkdocs.yml."""
FURTHER = {
    "Results": {
        "background-study.md": "The background study",
        "background-tables.md": "Its tables",
    }
}
"""Pages that are shown where they are."""
ANY = "…"
"""Stands for a value in a message."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Names the pages of folders, in the order of the folder's own README.md, and all others."""
    nav: list[Any] = []
    for entry in config.nav or []:
        ((title, value),) = entry.items()
        if value in FOLDERS:
            value = pages_of(Path(config.docs_dir) / value)
        further = FURTHER.get(title, {})
        value = value if not further else [
            *value,
            *({name: page} for page, name in further.items() if (ROOT / "docs" / page).is_file()),
        ]  # fmt: skip
        nav.append({title: value})
    named = str(nav)
    docs = Path(config.docs_dir)
    others = [path.relative_to(docs).as_posix() for path in sorted(docs.rglob("*.md"))]
    more = [page for page in others if repr(page) not in named]
    config.nav = [*nav, {"More": more}] if more else nav
    return config


def pages_of(folder: Path) -> list[str]:
    """The pages of a folder: README.md, those that it links to in that order, the others."""
    index = folder / "README.md"
    linked = re.findall(r"\]\(([\w-]+\.md)\)", index.read_text())
    there = sorted(path.name for path in folder.glob("*.md"))
    order = dict.fromkeys(["README.md", *(name for name in linked if name in there), *there])
    return [f"{folder.name}/{name}" for name in order]


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages outside docs/, and every example as a page."""
    for name in BESIDE:
        files.append(File.generated(config, name, content=(ROOT / name).read_text()))
    for path in sorted((ROOT / "examples").glob("*.py")):
        page = f"# {path.name}\n```python\n{path.read_text()}```\n"
        file = File.generated(config, f"examples/{path.stem}.md", content=page)
        file.inclusion = file.inclusion.NOT_IN_NAV
        files.append(file)
    return files


def on_page_markdown(text: str, *, page: Page, files: Files, **_: Any) -> str:
    """Links to files of the repository as links to their pages; the list of messages."""
    here = page.file.src_uri
    outside = here in BESIDE
    base = posixpath.dirname(here if outside else f"docs/{here}")

    def link(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        if "://" in target or target.startswith(("#", "mailto:")):
            return found[0]
        whole = posixpath.normpath(posixpath.join(base, target))
        known = whole.removeprefix("docs/") if whole.startswith("docs/") else whole
        if known.startswith("examples/"):
            known = known.replace(".py", ".md")
        if files.get_file_from_path(known) is None:
            return found[0]
        return f"]({posixpath.relpath(known, posixpath.dirname(here) or '.')}{anchor})"

    text = re.sub(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", link, text)
    for mark, made in (("message", every_message), ("command", every_command)):
        if f"<!-- every {mark} -->" in text:
            text = text.replace(f"<!-- every {mark} -->", made())
    return text


def on_page_content(html: str, **_: Any) -> str:
    """Roles of docstrings, as in :func:`name`, leave only their name."""
    return re.sub(r":(?:class|func|meth|mod|data|attr):(?=<code>)", "", html)


def every_command() -> str:
    """The help of every verb and of the commands below it, as Markdown."""
    from iclmsr.cli import VERBS
    from iclmsr.options import usage

    parts = []
    for name, verb in VERBS.items():
        parts.append(f"## iclmsr {name}\n```text\n{usage(verb)}```\n")
        below = getattr(sys.modules[verb.__module__], "COMMANDS", {})
        for command, function in below.items():
            parts.append(f"### iclmsr {name} {command}\n```text\n{usage(function)}```\n")
    return "\n".join(parts)


def every_message() -> str:
    """Every message as Markdown, by the module that says it."""
    parts = []
    for module, found in messages().items():
        parts.append(f"### {module}\n")
        parts += [f"* `{message.replace('`', ANY)}`" for message in found]
        parts.append("")
    return "\n".join(parts)


def messages(source: Path = ROOT / "src") -> dict[str, list[str]]:
    """The text of every error and warning that a user may read, a value standing as …, by module.

    An error is whatever is raised of ``IclmsrError`` or a class made from it.
    """
    trees = {path: ast.parse(path.read_text()) for path in sorted(source.rglob("*.py"))}
    errors = {"IclmsrError"}
    for _ in range(3):  # classes of classes
        for tree in trees.values():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and errors & {_name(base) for base in node.bases}:
                    errors.add(node.name)
    found: dict[str, list[str]] = {}
    for path, tree in trees.items():
        module = ".".join(path.relative_to(source).with_suffix("").parts)
        said_by = {*errors, *_chosen(tree, errors), "warn"}
        calls = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and _name(node.func) in said_by
        ]
        texts = [
            template(argument)
            for call in sorted(calls, key=lambda call: call.lineno)
            for argument in call.args[:2]
        ]
        texts = [text for text in dict.fromkeys(texts) if len(text.split()) > 2]
        if texts:
            found[module] = texts
    return found


def _chosen(tree: ast.Module, errors: set[str]) -> set[str]:
    """Variables that hold one of two errors: ``kind = Taken if there else IclmsrError``."""
    return {
        _name(target)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.IfExp)
        if errors & {_name(node.value.body), _name(node.value.orelse)}
        for target in node.targets
    }


def _name(node: ast.expr) -> str:
    """The last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def template(node: ast.expr) -> str:
    """A string of the source with each value in it as …."""
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        parts = "".join(
            template(part) if isinstance(part, ast.Constant) else ANY for part in node.values
        )
        return re.sub(f"{ANY}+", ANY, parts)
    return ANY
