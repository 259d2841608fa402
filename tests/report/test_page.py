# SPDX-License-Identifier: Apache-2.0
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_runs import write_evaluation, write_run

import iclmsr.report.page
from iclmsr.errors import IclmsrError
from iclmsr.files import write_json
from iclmsr.report import write_report

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Elements of a page, and whether they are nested as they should."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.text = [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in set(self.open):
            self.text.setdefault(tag, []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def report(tmp_path, *paths, **options):
    out = tmp_path / "report.html"
    write_report(paths, out, **options)
    return out.read_text()


@pytest.fixture
def compared(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / "runs" / f"a{seed}", seed=seed, linear=60 + 2 * seed, gallery=30)
        write_run(tmp_path / "runs" / f"b{seed}", seed=seed, msr=True, linear=63 + seed, gallery=30)
    return tmp_path / "runs"


def test_names_that_are_no_utf_8(tmp_path):
    write_run(tmp_path / "run", source="caf\udce9")
    assert r"caf\udce9" in report(tmp_path, tmp_path / "run")


def test_one_file_that_asks_for_nothing(tmp_path, compared):
    text = report(tmp_path, compared)
    page = Page(text)
    for tag, attributes in page.found:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    assert "@import" not in text
    assert "url(" not in text
    policies = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policies[0].startswith("default-src 'none'")


def test_headings_landmarks_and_alternatives(tmp_path, compared):
    page = Page(report(tmp_path, compared))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("nav")) == 1
    titles = page.text["h2"]
    assert titles[0] == "What differs"
    assert titles == [
        "What differs", "Losses", "Health", "Throughput and encoder wait", "Accuracy",
        "Beside the paper", "Embedding map", "Nearest neighbours", "What the encoder sees",
        "Strata weights over training",
    ]  # fmt: skip
    names = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(set(names)) == len(names)
    for section in page.all("section"):
        assert section["aria-labelledby"] in names
    links = [a["href"].removeprefix("#") for a in page.all("a")]
    assert set(links) <= set(names)
    assert all(image.get("alt") for image in page.all("img"))
    assert all("width" in image and "height" in image for image in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("table")) >= 5
    for svg in page.all("svg"):
        assert svg.get("role") == "img" or svg.get("aria-hidden") == "true"


def test_differences_come_first_and_numbers_are_right(tmp_path, compared):
    text = report(tmp_path, compared)
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    assert cells[0] == ["setting", "simclr", "simclr + MSR"]
    assert ["msr.enabled", "false", "true"] in cells
    assert ["seeds", "0, 1", "0, 1"] in cells
    # linear 60 and 62, 63 and 64; the paper's SimCLR has 91.80 / 88.42, with MSR 92.34 / 89.47
    judged = ["61.00 ± 1.41", "50.00 ± 0.00", "5", "2", "4", "cifar10", "w-mse-2021"]
    assert ["simclr", *judged] in cells
    beside = {row[0]: row[1:8] for row in cells if len(row) == 12}
    assert beside["simclr, cifar10"] == [
        "61.00 ± 1.41", "91.80", "-30.80", "50.00 ± 0.00", "88.42", "-38.42", "2"
    ]  # fmt: skip
    assert beside["simclr + MSR, cifar10"][:3] == ["63.50 ± 0.71", "92.34", "-28.84"]


def test_one_run_beside_its_recipe(tmp_path):
    run = write_run(tmp_path / "run", epochs=4)
    base = {"simclr-cifar10": {"epochs": 1000, "log_every": 5}}
    text = report(tmp_path, run, recipes=base)
    assert "Settings that differ from the recipe simclr-cifar10" in text
    assert re.search(r"<th scope=\"row\">epochs</th><td>1000</td><td>4</td>", text)
    assert "log_every</th>" not in text
    assert "One run: there is nothing to compare" in report(tmp_path, run)


def test_what_is_missing_is_said_with_its_command(tmp_path):
    run = write_run(tmp_path / "run", done=0, msr=True)
    text = report(tmp_path, run, missed={run: "data.root is not set"})
    assert f"iclmsr evaluate {run}" in text
    assert f"iclmsr report {run} --data.root PATH" in text
    assert "data.root is not set" in text
    assert "No epoch is done yet" in text
    assert "no strata weights yet" in text
    assert "<canvas" not in text


def test_nothing_of_a_run_is_taken_for_markup(tmp_path):
    evil = "</script><script>alert(1)</script><img src=x>"
    run = write_run(tmp_path / "run", gallery=20, remark=evil)
    gallery = run / "gallery" / "gallery.json"
    gallery.write_text(gallery.read_text().replace("class 0", evil))
    text = report(tmp_path, run)
    page = Page(text)
    assert "alert(1)" in text
    assert len([s for s in page.all("script") if "type" not in s]) == 1
    assert all(image["src"].startswith("data:") for image in page.all("img"))


def test_names_tell_runs_apart(tmp_path):
    for parent in ("x", "y"):
        write_run(tmp_path / parent / "run", epochs=3 if parent == "x" else 4)
    text = report(tmp_path, tmp_path / "x", tmp_path / "y", tmp_path / "x" / "run")
    assert "x/run" in text
    assert "y/run" in text
    assert re.search(r"<dt>runs</dt><dd>2</dd>", text)


def test_bad_input(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(IclmsrError, match="holds neither a run nor a study"):
        report(tmp_path, tmp_path / "empty")
    with pytest.raises(IclmsrError, match="is not a folder"):
        report(tmp_path, tmp_path / "nowhere")
    run = write_run(tmp_path / "run")
    (run / "config.json").write_text("{")
    with pytest.raises(IclmsrError, match=r"run cannot be read: .*is not valid JSON"):
        report(tmp_path, run)
    assert not (tmp_path / "report.html").exists()
    other = write_run(tmp_path / "other", gallery=20)
    (other / "gallery" / "samples.png").write_bytes(b"no picture")
    with pytest.raises(IclmsrError, match=r"samples.png is damaged: .*--renew"):
        report(tmp_path, other)


def test_a_run_that_is_being_written(tmp_path):
    run = write_run(tmp_path / "run", done=2)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"event": "epoch", "epo')
    assert "2 of 4" in report(tmp_path, run)


def test_pictures_of_a_run_are_shown(tmp_path):
    run = write_run(tmp_path / "run", gallery=20)
    (run / "gallery" / "samples.png").read_bytes()
    (run / "demo.png").write_bytes((run / "gallery" / "samples.png").read_bytes())
    (run / "bad.png").write_text("no")
    page = Page(text := report(tmp_path, run))
    assert any(image["alt"] == "demo.png of run" for image in page.all("img"))
    assert "bad.png is not a picture" in text


def test_colours_can_be_told_from_the_paper():
    """WCAG contrast: 4.5 for text, 3 for lines and marks, on light and dark paper."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    style = Path(iclmsr.report.page.__file__).with_name("page.css").read_text()
    themes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(themes) == 3
    for theme in themes:
        colours = {
            name: value if len(value) == 6 else "".join(2 * digit for digit in value)
            for name, value in re.findall(r"--(\w+): #([0-9a-f]+)", theme)
        }
        for name, least in [
            *((n, 4.5) for n in ("ink", "faint", "link")), *((f"c{i}", 3) for i in range(7))
        ]:  # fmt: skip
            for paper in ("paper", "soft") if name in ("ink", "faint", "link") else ("paper",):
                pair = sorted((luminance(colours[name]), luminance(colours[paper])))
                ratio = (pair[1] + 0.05) / (pair[0] + 0.05)
                assert ratio >= least, (name, paper, colours[name], ratio)


def test_nothing_to_report(tmp_path):
    write_json(tmp_path / "study.json", {"study": "four-settings", "rows": []})
    assert "has no finished run yet" in report(tmp_path, tmp_path)


def test_the_same_untrained_encoder_counts_once(tmp_path):
    for seed in (0, 1):
        for msr in (False, True):
            run = write_run(tmp_path / "runs" / f"{seed}{msr}", seed=seed, msr=msr)
            write_evaluation(run, untrained=(30.0 + 2 * seed, 20.0))
    text = report(tmp_path, tmp_path / "runs")
    row = re.search(r"<th scope=\"row\">untrained encoder</th>(.*?)</tr>", text)[1]
    assert re.findall(r"<td>(.*?)</td>", row)[:4] == ["31.00 ± 1.41", "20.00 ± 0.00", "5", "2"]
