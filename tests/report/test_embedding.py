# SPDX-License-Identifier: Apache-2.0
import base64
import json
import re

import numpy as np
from report_runs import write_run

from iclmsr.report.embedding import gallery_sections
from iclmsr.report.groups import group
from iclmsr.report.reading import collect


def sections_of(*paths, missed=None):
    return "".join(gallery_sections(group(collect(paths).runs), missed or {}))


def data_of(text):
    return json.loads(re.search(r'id="map-data">(.*?)</script>', text, re.DOTALL)[1])


def unpacked(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def test_what_the_script_reads_is_the_gallery(tmp_path):
    run = write_run(tmp_path / "run", gallery=30)
    gallery = json.loads((run / "gallery" / "gallery.json").read_text())
    [known] = data_of(sections_of(run))
    assert (unpacked(known["labels"], "<u2") - 1).tolist() == gallery["labels"]
    neighbours = unpacked(known["neighbours"], "<u4").reshape(30, known["kept"])
    assert neighbours.tolist() == gallery["neighbours"]
    assert list(known["projections"]) == ["PCA", "UMAP"]
    placed = unpacked(known["projections"]["PCA"], "<u2").reshape(30, 2).astype(float)
    points = np.array(gallery["pca"])
    fit = np.polyfit(points.ravel() - np.tile(points.mean(0), 30), placed.ravel(), 1)
    side = np.ptp(points, axis=0).max()
    assert abs(fit[0] - 65535 / side) / fit[0] < 0.02  # one scale for both axes


def test_images_without_class(tmp_path):
    run = write_run(tmp_path / "run", gallery=20)
    path = run / "gallery" / "gallery.json"
    gallery = json.loads(path.read_text())
    gallery |= {"labels": [-1] * 20, "classes": [], "sample_labels": [-1, -1]}
    path.write_text(json.dumps(gallery))
    text = sections_of(run)
    assert not unpacked(data_of(text)[0]["labels"], "<u2").any()
    assert "of their class" not in text
    assert 'class="other"' not in text


def test_neighbours_say_whether_the_class_is_the_same(tmp_path):
    text = sections_of(write_run(tmp_path / "run", gallery=30))
    assert "100.0 % of the 5 nearest of all images are of their class" in text
    assert text.count('class="same"') == 50  # 10 queries, one a class
    assert 'class="other"' not in text


def test_equal_thumbnails_are_there_once(tmp_path):
    for name, more in (("a", {}), ("b", {"msr": True})):
        write_run(tmp_path / name, gallery=20, **more)
    text = sections_of(tmp_path)
    assert len(re.findall(r'id="sprite-\d+"', text)) == 1
    assert [known["sprite"] for known in data_of(text)] == [0, 0]


def test_only_the_first_seed_is_drawn(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), seed=seed, gallery=20)
    assert len(data_of(sections_of(tmp_path))) == 1
