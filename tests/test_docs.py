# SPDX-License-Identifier: Apache-2.0
"""The documentation site: built strictly, whole, without the network, and true to the source."""

import importlib.util
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import matplotlib.image
import pytest
import torch

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PICTURES = DOCS / "pictures"
FIXED = """
    losses.nt_xent losses.regression_loss methods.w_mse.whiten methods.w_mse.w_mse_loss
    methods.ressl.ressl_loss methods.lmcl.distance_polarization methods.ssl_hsic.ssl_hsic_loss
    methods.relic.relic_loss interventional.interventional_loss causal.discrete.backdoor_adjustment
    evaluate.linear_probe.linear_probe evaluate.knn.knn regularizer.MetaSemanticRegularizer
    methods.base.Method bilevel.engines.meta_gradient pretrain.pretrain pretrain.resume
    config.PretrainConfig config.MSRConfig data.config.DataConfig data.sources.load
    encoders.loaded.load_encoder evaluate.judge.evaluate reproduce.runner.reproduce
    embed.embedder.load embed.embedder.Embedder embed.embedder.Embedder.embed
    embed.files.embed_files embed.search.search embed.transformer.EncoderTransformer
    export.folder.export
    export.hub.HubEncoder evaluate.probe.fit_probe evaluate.probe.few_labels
    evaluate.logistic.fit_logistic evaluate.variants.uniform evaluate.variants.weighted
    evaluate.fine_tune.fine_tune evaluate.online.Online
    config.OnlineConfig evaluate.EvaluateConfig evaluate.protocol.LinearProbeConfig
    evaluate.protocol.LogisticProbeConfig evaluate.protocol.FewLabelConfig
    evaluate.protocol.FineTuneConfig embed.files.EmbedConfig
""".split()  # noqa: SIM905
"""What the reference has to hold, below ``iclmsr``."""


def script(name):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = script("hooks")
MESSAGES = [message for found in HOOKS.messages().values() for message in found]
QUOTED = re.findall(r"^### `(.+)`$", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", out],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_nothing_is_fetched_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        text = page.read_text()
        for tag in re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", text):
            assert "//" not in tag or 'rel="canonical"' in tag, f"{page}: {tag}"
    assert "@import" not in "".join(path.read_text() for path in site.rglob("*.css"))


def test_every_page_of_the_docs_is_there_and_in_the_navigation(site):
    index = (site / "index.html").read_text()
    for page in DOCS.rglob("*.md"):
        made = page.relative_to(DOCS).with_suffix(".html")
        made = made.with_stem("index") if made.stem == "README" else made
        assert (site / made).is_file()
        assert f'href="{made}"' in index, f"{made} is in no menu"
    assert index.index("how-to/msr-in-your-loop.html") < index.index("how-to/data.html")


def test_links_lead_to_pages_and_anchors(site):
    pages = {page: page.read_text() for page in site.rglob("*.html") if page.name != "404.html"}
    ids = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    for page, text in pages.items():
        for link in re.findall(r'<a\b[^>]*\bhref="([^"]+)"', text):
            target, _, anchor = unescape(link).partition("#")
            if "://" in target or target.startswith("mailto:"):
                continue
            to = (page.parent / target).resolve() if target else page
            assert to.exists(), f"{page}: {link}"
            assert not anchor or to.suffix != ".html" or anchor in ids[to] | {"__tabbed"}, link


@pytest.mark.parametrize("name", FIXED)
def test_the_reference_holds(site, name):
    text = "".join(page.read_text() for page in (site / "reference").glob("*.html"))
    (heading,) = re.findall(rf'<h\d id="iclmsr\.{re.escape(name)}".*?(?=<h\d )', text, re.DOTALL)
    assert len(re.sub("<[^>]*>", "", heading).split()) > 8, "no docstring"


@pytest.mark.parametrize(
    "page",
    [page for page in sorted(DOCS.rglob("*.md")) if page.parent.name != "how-to"],
    ids=lambda page: page.stem,
)
def test_python_blocks_run_one_after_the_other(page, tmp_path, monkeypatch):
    """A block with ``title="needs ..."`` is only compiled, and what it imports is imported."""
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "docs"}
    with torch.random.fork_rng(devices=[]):
        for title, block in re.findall(
            r"^```python(?: title=\"needs (.+)\")?\n(.*?)^```",
            page.read_text(),
            re.DOTALL | re.MULTILINE,
        ):
            code = compile(block, page.name, "exec")
            if title:
                imports = re.findall(r"^(?:import|from) .*$", block, re.MULTILINE)
                code = compile("\n".join(imports), page.name, "exec")
            exec(code, namespace)


def test_no_python_block_hides_from_the_tests():
    for page in DOCS.rglob("*.md"):
        for opening in re.findall(r"^```(?=.*\S)(.*)$", page.read_text(), re.MULTILINE):
            known = {"python", "diff", "json", "toml", "text", "latex", "csv"}
            assert re.fullmatch(rf"({'|'.join(known)})( title=\"needs [^\"]+\")?", opening), page


def test_no_role_is_left_as_it_is_in_a_docstring(site):
    for page in (site / "reference").glob("*.html"):
        assert not re.search(r":(?:class|func|meth|mod|data|attr):", page.read_text()), page


def test_every_command_and_message_is_listed(site):
    commands = unescape((site / "reference/commands.html").read_text())
    assert "usage: iclmsr reproduce table" in commands
    assert "usage: iclmsr data check" in commands
    text = unescape(re.sub("<[^>]*>", "", (site / "reference/messages.html").read_text()))
    assert len(MESSAGES) > 250
    for message in MESSAGES:
        assert message.replace("`", "…") in text


@pytest.mark.parametrize("quoted", QUOTED)
def test_troubleshooting_quotes_the_source(quoted):
    assert any(quoted in message for message in MESSAGES)


def test_troubleshooting_has_a_remedy_for_each():
    text = (DOCS / "troubleshooting.md").read_text()
    assert len(QUOTED) == len(set(QUOTED)) >= 30
    for part in re.split(r"^##+ .*$", text, flags=re.MULTILINE)[1:]:
        assert not part.strip() or len(part.split()) >= 8


def test_the_figures_of_the_concepts_show_what_their_pages_say(tmp_path):
    figures = script("figures")
    assert [round(effect, 2) for effect in figures.effects(0.98)] == [0.68, 0.1]
    losses = [figures.contrastive(figures.stepped(w)).item() for w in figures.stage_two(10)]
    assert losses == sorted(losses, reverse=True)
    assert [round(losses[0], 2), round(losses[-1], 2)] == [0.94, 0.10]
    for name, draw in (
        ("adjustment", figures.draw_adjustment), ("two-stages", figures.draw_stages)
    ):  # fmt: skip
        draw(tmp_path / f"{name}.png")
        drawn, kept = (matplotlib.image.imread(f / f"{name}.png") for f in (tmp_path, PICTURES))
        assert drawn.shape == kept.shape


def test_messages_are_found_wherever_they_are_written(tmp_path):
    (tmp_path / "one.py").write_text(
        "class Bad(IclmsrError): pass\n"
        "class Worse(Bad): pass\n"
        "def f(x):\n"
        "    raise Worse(f'x must be {x!r}{x}, ' f'got {x} of it')\n"
        "    raise errors.IclmsrError('plain and simple words') from None\n"
        "    warnings.warn('take care of it', stacklevel=2)\n"
        "    raise ValueError('not a message of ours')\n"
        "    kind = Worse if x else Bad\n"
        "    raise kind('one of two errors')\n"
    )
    assert HOOKS.messages(tmp_path) == {
        "one": [
            "x must be …, got … of it",
            "plain and simple words",
            "take care of it",
            "one of two errors",
        ]
    }
