# SPDX-License-Identifier: Apache-2.0
import io
import logging
import os
import pickle
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from PIL import Image

from iclmsr import cli
from iclmsr.data import feed as feed_module
from iclmsr.data import rows
from iclmsr.data.check import check
from iclmsr.data.describe import show
from iclmsr.data.feed import feed_of
from iclmsr.data.file_set import FileSet
from iclmsr.data.found import guess
from iclmsr.data.images import ImageSet
from iclmsr.data.places import absolute, name_and_subset
from iclmsr.data.sample import draw_sample
from iclmsr.data.sources import DataConfig, load, open_split, prepare
from iclmsr.errors import IclmsrError

SIZE = 8
PICTURE = datasets.Image()
AB = ClassLabel(names=["ant", "bee"])


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No network, and caches of this test alone."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("asked the network"))
    monkeypatch.setenv("ICLMSR_CACHE", str(tmp_path / "cache"))


def png(number, size=SIZE, mode="RGB", **options):
    """A random image of that number, as a file's bytes."""
    pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, options.pop("format", "PNG"), **options)
    return file.getvalue()


def gray(number, **options):
    """A mask."""
    return png(number, mode="L", **options)


def pixels_of(content):
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def cells(*contents):
    return [None if content is None else {"bytes": content, "path": None} for content in contents]


def write(file, columns, **features):
    file.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(columns, features=Features(features)).to_parquet(file)
    return DataConfig(source="hf", root=file, image_size=SIZE)


@pytest.fixture
def plain(tmp_path):
    """Six images of two classes."""
    columns = {"image": cells(*map(png, range(6))), "label": [0, 1, 0, 1, 0, 1]}
    return write(tmp_path / "set.parquet", columns, image=PICTURE, label=AB)


def numbers(images):
    """Which of the images `png` made these are."""
    known = [pixels_of(png(number)) for number in range(20)]
    return [next(n for n, one in enumerate(known) if torch.equal(one, x)) for x in images.images]


def fails(message, config, split="train"):
    with pytest.raises(IclmsrError, match=f"^{message}$"):
        load(config, split)


def test_the_same_files_in_a_folder_and_in_columns_are_the_same_images(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    gray = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 999).save(gray, "PNG")
    files = {
        "ant/0.png": png(0),
        "ant/1.jpg": png(1, format="JPEG", exif=exif),
        "ant/2.png": gray.getvalue(),
        "ant/3.png": png(3, mode="RGBA"),
        "bee/0.png": png(4, mode="P"),
        "bee/1.webp": png(5, format="WEBP", size=30),
        "bee/2.jpg": png(6, size=5, mode="L", format="JPEG"),
    }
    sizes = [30 if "webp" in name else 5 if "2.jpg" in name else SIZE for name in files]
    masks = [png(20 + size, size=size, mode="L") for size in sizes]
    for (name, content), mask in zip(files.items(), masks, strict=True):
        for path, data in ((tmp_path / "set" / name, content), (tmp_path / "masks" / name, mask)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".png" if data is mask else path.suffix).write_bytes(data)
    columns = {
        "label": [0, 0, 0, 0, 1, 1, 1],
        "image": cells(*files.values()),
        "mask": cells(*masks),
    }
    found = load(
        write(tmp_path / "a.parquet", columns, image=PICTURE, label=AB, mask=PICTURE), "train"
    )
    config = DataConfig(
        source="folder", root=tmp_path / "set", masks=tmp_path / "masks", image_size=SIZE
    )
    expected = load(config, "train")
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.masks, expected.masks)
    assert found.classes == expected.classes == ("ant", "bee")
    assert found.fingerprint() == expected.fingerprint()


def test_pretrain_reads_what_train_does_and_says_nothing(plain, capfd):
    shown = not datasets.utils.are_progress_bars_disabled()
    assert numbers(load(plain, "pretrain")) == numbers(load(plain, "train")) == [0, 1, 2, 3, 4, 5]
    assert capfd.readouterr().err == ""
    assert shown
    assert not datasets.utils.are_progress_bars_disabled()


def test_a_limit_reads_the_drawn_rows_only(plain, monkeypatch):
    read, real = [], rows._content
    monkeypatch.setattr(rows, "_content", lambda cell: read.append(cell) or real(cell))
    found = numbers(load(replace(plain, limit=3, seed=5), "train"))
    assert len(read) == len(found) == 3
    assert found == sorted(found) != [0, 1, 2]
    fails(r"data\.limit must be in \[1, 6\], .*, got 7", replace(plain, limit=7))


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        (png(1)[:-40], r"does not decode \(OSError: .*truncated.*\)"),
        (b"no image", r"does not decode \(no image of a known format\)"),
        (b"", r"does not decode \(ValueError: the file is empty\)"),
        (None, r"does not decode \(FileNotFoundError: the cell is empty\)"),
    ],
)
def test_image_that_does_not_decode(tmp_path, spoilt, reason):
    columns = {"image": cells(png(0), spoilt, png(2)), "label": [0, 0, 1]}
    config = write(tmp_path / "set.parquet", columns, image=PICTURE, label=AB)
    row = rf"row 1 of column 'image' of {tmp_path}/set\.parquet, split train"
    fails(f"{row} {reason}: mend it, or pass --data.on-corrupt skip .*", config)
    found = load(replace(config, on_corrupt="skip"), "train")
    assert numbers(found) == [0, 2]
    assert found.skipped == (row.replace("\\", ""),)


def test_a_class_that_loses_all_its_images(tmp_path):
    columns = {"image": cells(png(0), b"", b""), "label": [0, -1, 1]}
    config = write(tmp_path / "set.parquet", columns, image=PICTURE, label=AB)
    config = replace(config, on_corrupt="skip")
    fails("not one image of class 'bee' in column 'image' of .* can be used: all 1 .*", config)
    columns["image"] = cells(png(0), b"", png(2))
    write(config.root, columns, image=PICTURE, label=AB)
    assert load(config, "train").labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (None, "has no mask row 1 of column 'mask' of .*"),
        (b"no", "has a mask row 1 of column 'mask' of .* does not decode .*"),
        (gray(1, size=4), "is 8 x 8 pixels, but its mask row 1 of column 'mask' of .* 4 x 4.*"),
    ],
)
def test_masks(tmp_path, mask, reason):
    white = io.BytesIO()
    Image.fromarray(np.full((SIZE, SIZE), 255, np.uint8)).save(white, "PNG")
    columns = {"image": cells(*map(png, range(3))), "mask": cells(white.getvalue(), mask, gray(0))}
    config = write(tmp_path / "set.parquet", columns, image=PICTURE, mask=PICTURE)
    fails(f"row 1 of column 'image' of .* {reason}", config)
    found = load(replace(config, on_corrupt="skip"), "train")
    assert numbers(found) == [0, 2]
    assert found.masks[0].all()
    assert 0 < found.masks[1].sum() < SIZE * SIZE
    assert load(replace(config, mask_column=""), "train").masks is None
    columns["seg"] = columns.pop("mask")
    write(config.root, columns, image=PICTURE, seg=PICTURE)
    assert load(replace(config, mask_column="seg", on_corrupt="skip"), "train").masks[0].all()
    columns |= {"image": cells(*map(gray, range(3))), "mask": columns["seg"]}
    write(config.root, columns, image=PICTURE, seg=PICTURE, mask=PICTURE)
    swapped = replace(config, image_column="mask", mask_column="image", on_corrupt="skip")
    assert load(swapped, "train").images[0].unique().tolist() == [255]


def test_a_column_called_mask_that_holds_no_images_is_none(tmp_path):
    columns = {"image": cells(png(0)), "mask": [1]}
    config = write(tmp_path / "set.parquet", columns, image=PICTURE, mask=Value("int64"))
    assert load(config, "train").masks is None
    fails(
        r"column 'mask' of .*, split train holds Value\('int64'\), no images: choose one of .*",
        replace(config, mask_column="mask"),
    )


@pytest.mark.parametrize(
    ("values", "kind", "labels", "classes"),
    [
        (["b", "a", "b", None], "string", [1, 0, 1, -1], ("a", "b")),
        ([10, 9, None, 9], "int64", [1, 0, -1, 0], ("9", "10")),
        ([True, False, True, True], "bool", [1, 0, 1, 1], ("False", "True")),
    ],
)
def test_labels_that_are_named(tmp_path, values, kind, labels, classes):
    columns = {"image": cells(*map(png, range(4))), "what": values}
    config = write(tmp_path / "set.parquet", columns, image=PICTURE, what=Value(kind))
    found = load(config, "train")
    assert found.labels.tolist() == [-1] * 4
    assert found.classes == ()
    found = load(replace(config, label_column="what"), "train")
    assert found.labels.tolist() == labels
    assert found.classes == classes


def test_declared_labels(tmp_path):
    columns = {"image": cells(*map(png, range(3))), "label": [1, None, -1]}
    config = write(tmp_path / "set.parquet", columns, image=PICTURE, label=AB)
    assert load(config, "train").labels.tolist() == [1, -1, -1]
    table = pq.read_table(config.root)
    table = table.set_column(1, table.field("label"), pa.array([0, 1, 2]))
    pq.write_table(table, config.root)
    os.utime(config.root, (1, 1))
    fails(r"'label' of .*set\.parquet, split train: labels must be in -1\.\.1, found 2", config)


@pytest.mark.parametrize("kind", [Value("string"), ClassLabel(names=["a", " "])])
def test_labels_that_are_empty(tmp_path, kind):
    columns = {"image": cells(*map(png, range(3))), "label": ["a", None, " "]}
    config = write(tmp_path / "set.parquet", columns, image=PICTURE, label=kind)
    fails(
        r"row 2 of column 'label' of .*, split train has the empty label ' ': name its class, .*",
        replace(config, label_column="label"),
    )
    columns["label"] = ["a", None, "a"]  # that a name is declared does no harm
    write(config.root, columns, image=PICTURE, label=kind)
    found = load(replace(config, label_column="label"), "train")
    assert found.labels.tolist() == [0, -1, 0]


def test_labels_that_are_none(plain, tmp_path):
    assert load(replace(plain, labels=False), "train").labels.tolist() == [-1] * 6
    columns = {"image": cells(png(0)), "score": [0.5]}
    config = write(tmp_path / "b.parquet", columns, image=PICTURE, score=Value("float64"))
    fails(
        r"column 'score' of .*b.parquet, split train holds Value\('float64'\), no labels: .*",
        replace(config, label_column="score"),
    )


def test_a_class_list_chooses_rows(plain, tmp_path):
    (tmp_path / "list.txt").write_text("bee\n")
    found = load(replace(plain, class_list=tmp_path / "list.txt"), "train")
    assert numbers(found) == [1, 3, 5]
    assert found.labels.tolist() == [0, 0, 0]
    assert found.classes == ("bee",)
    (tmp_path / "list.txt").write_text("cat\n")
    config = replace(plain, class_list=tmp_path / "list.txt")
    fails(
        "data.class-list .* names classes, .*, that are not in .*, split train: cat: did .*", config
    )


def test_columns_in_columns(tmp_path):
    item = [{"jpg": cell, "cls": n % 2} for n, cell in enumerate(cells(*map(png, range(3))))]
    columns = {"item": item, "mask": cells(*map(gray, range(3)))}
    mask = datasets.Image(decode=False)
    config = write(tmp_path / "set.parquet", columns, item={"jpg": PICTURE, "cls": AB}, mask=mask)
    found = load(config, "train")
    assert numbers(found) == [0, 1, 2]
    assert found.labels.tolist() == [0, 1, 0]
    assert found.masks is not None
    assert numbers(load(replace(config, image_column="item.jpg"), "train")) == [0, 1, 2]
    fails(
        r"data\.image-column 'item.jpeg' is not in .*, split train: did you mean 'item.jpg'.*",
        replace(config, image_column="item.jpeg"),
    )


def test_images_that_only_their_fields_tell(tmp_path):
    pictures = cells(*map(png, range(3)))
    others = [{"bytes": 1, "path": "x", "more": 2}] * 3
    masks = cells(*map(gray, range(3)))
    table = pa.table({"img": pictures, "mask": masks, "n": others, "label": ["a", "b", "a"]})
    pq.write_table(table, tmp_path / "set.parquet")
    config = DataConfig("hf", tmp_path / "set.parquet", SIZE, label_column="label")
    found = load(config, "train")
    assert numbers(found) == [0, 1, 2]
    assert found.labels.tolist() == [0, 1, 0]
    assert found.masks is not None
    assert load(replace(config, label_column="n.more"), "train").classes == ("2",)


def test_columns_of_bytes_and_of_paths(tmp_path):
    for number in (0, 1):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    paths = [str(tmp_path / f"{number}.png") for number in (1, 0, 7)]
    columns = {"raw": list(map(png, range(3))), "path": paths}
    config = write(tmp_path / "set.parquet", columns, raw=Value("binary"), path=Value("string"))
    fails(
        "no column of images in .*, split train: name the one that holds them with "
        "--data.image-column; there is raw, path",
        config,
    )
    assert numbers(load(replace(config, image_column="raw"), "train")) == [0, 1, 2]
    config = replace(config, image_column="path", on_corrupt="skip")
    assert numbers(load(config, "train")) == [1, 0]


def test_columns_that_have_to_be_chosen(tmp_path):
    columns = {
        **{"left": cells(png(0)), "right": cells(png(1))},
        **{"fine": [1], "coarse": [0]},
    }
    config = write(
        tmp_path / "set.parquet", columns, left=PICTURE, right=PICTURE, fine=AB, coarse=AB
    )
    fails(
        "several columns of images in .*, split train: choose left or right with "
        "--data.image-column",
        config,
    )
    config = replace(config, image_column="right")
    fails("several columns of labels in .*: choose fine or coarse with --data.label-column", config)
    found = load(replace(config, label_column="fine"), "train")
    assert numbers(found) == [1]
    assert found.labels.tolist() == [1]


def write_split(root, name, numbers, labels, kind=AB):
    columns = {"image": cells(*map(png, numbers)), "label": labels}
    write(root / "data" / f"{name}-00000-of-00001.parquet", columns, image=PICTURE, label=kind)
    return DataConfig(source="hf", root=root, image_size=SIZE)


def test_splits_of_a_folder(tmp_path):
    config = write_split(tmp_path / "set", "train", [0, 1], [0, 1])
    fails(
        f"no test images in {tmp_path}/set: looked for a split test or val or valid or "
        "validation, there is train",
        config,
        "test",
    )
    write_split(tmp_path / "set", "validation", [2, 3], [0, 1])
    assert numbers(load(config, "train")) == [0, 1]
    assert numbers(load(config, "test")) == [2, 3]
    write_split(tmp_path / "set", "test", [4, 5], [1, 0])
    assert numbers(load(config, "test")) == [4, 5]
    assert numbers(load(replace(config, source=f"hf:{config.root}", root=None), "test")) == [4, 5]


def test_a_sheet_of_test_images_has_their_masks(tmp_path):
    for split, first in (("train", 0), ("test", 5)):
        masks = [gray(number) for number in range(first, first + 3)]
        columns = {"image": cells(*map(png, range(3))), "mask": cells(*masks), "label": [0, 1, 1]}
        file = tmp_path / "set" / f"{split}.parquet"
        write(file, columns, image=PICTURE, mask=PICTURE, label=AB)
    config = DataConfig("hf", tmp_path / "set", SIZE)
    found = check(config)
    drawn = {name: draw_sample(found, 3, seed=0, split=name).images for name in ("train", "test")}
    for split, images in drawn.items():
        assert torch.equal(images.masks, load(config, split).masks)
    assert not torch.equal(drawn["train"].masks, drawn["test"].masks)


def test_test_images_without_labels_are_passed_over(tmp_path):
    config = write_split(tmp_path / "set", "train", [0, 1], [0, 1])
    write_split(tmp_path / "set", "test", [4, 5], [-1, -1])
    fails(
        f"not all images in {tmp_path}/set, split test have labels: name their column with "
        "--data.label-column; there is image, label",
        config,
        "test",
    )
    assert numbers(load(replace(config, labels=False), "test")) == [4, 5]
    write_split(tmp_path / "set", "validation", [2, 3], [0, 1])
    assert numbers(load(config, "test")) == [2, 3]


def test_test_images_have_the_classes_of_the_training_images(tmp_path):
    word = Value("string")
    config = write_split(tmp_path / "set", "train", [0, 1], ["x", "y"], word)
    write_split(tmp_path / "set", "test", [2], ["z"], word)
    fails(
        f"test and train have different classes; only in {tmp_path}/set, split test: z; "
        f"only in {tmp_path}/set, split train: x, y: give both the same",
        replace(config, label_column="label"),
        "test",
    )


@pytest.mark.parametrize("resident", ["memory", "disk"])
def test_test_images_that_number_the_classes_otherwise(tmp_path, resident):
    def save(folder, **labels):
        parts = {}
        for split, names in (("train", ["ant", "bee"]), ("test", ["bee", "ant"])):
            columns = {"image": cells(*map(png, range(3))), "label": labels[split]}
            features = Features(image=PICTURE, label=ClassLabel(names=names))
            parts[split] = Dataset.from_dict(columns, features=features)
        DatasetDict(parts).save_to_disk(tmp_path / folder)
        return DataConfig("hf", tmp_path / folder, SIZE, resident=resident)

    config = save("set", train=["ant", "bee", None], test=["bee", "ant", "bee"])
    found = open_split(config, "test")
    assert (found.classes, found.labels.tolist()) == (("ant", "bee"), [1, 0, 1])
    assert list(check(config).splits["test"].labels.values()) == ["bee", "ant", "bee"]
    config = save("some", train=["ant", "bee", None], test=["bee", "ant", None])
    fails("not all images in .* have labels: .*", config, "test")
    assert open_split(replace(config, labels=False), "test").labels.tolist() == [-1] * 3


def test_the_only_split_serves_as_train_unless_it_is_for_tests(tmp_path):
    part = Dataset.from_dict({"image": cells(png(3))}, features=Features(image=PICTURE))
    DatasetDict({"all": part}).save_to_disk(tmp_path / "all")
    DatasetDict({"valid": part}).save_to_disk(tmp_path / "valid")
    one = part.add_column("number", [7]).with_format("numpy")
    one.save_to_disk(tmp_path / "one")
    config = DataConfig(source="hf", image_size=SIZE)
    assert numbers(load(replace(config, root=tmp_path / "all"), "train")) == [3]
    found = load(replace(config, root=tmp_path / "one", label_column="number"), "train")
    assert numbers(found) == [3]
    assert found.classes == ("7",)
    fails("no train images in .*, there is valid", replace(config, root=tmp_path / "valid"))


def test_the_hub_is_asked_for_name_and_subset(monkeypatch):
    asked = []

    def load_dataset(*words, **options):
        asked.append((words, options))
        part = Dataset.from_dict({"image": cells(png(3))}, features=Features(image=PICTURE))
        return DatasetDict({"train": part})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for source in ("hf:uoft-cs/cifar10", "hf:ylecun/mnist:small"):
        assert numbers(load(DataConfig(source=source, image_size=SIZE), "train")) == [3]
    mapped = {"keep_in_memory": False}
    assert asked == [(("uoft-cs/cifar10", None), mapped), (("ylecun/mnist", "small"), mapped)]


def test_data_sets_that_cannot_be_loaded(tmp_path, monkeypatch):
    def breaks(message, **options):
        fails(f"cannot load {message}", DataConfig(**{"source": "hf", **options}))

    breaks("hf:no/such: ConnectionError: .*OfflineMode.*: mend the name .*", source="hf:no/such")
    (tmp_path / "empty").mkdir()
    breaks(f"{tmp_path}/empty: EmptyDatasetError: .*: put files .*", root=tmp_path / "empty")
    broken = tmp_path / "broken[0]*.parquet"
    broken.write_bytes(b"PAR1, but no more")
    breaks(r".*/broken\[0\]\*\.parquet: ArrowInvalid: .*: make or download it .*", root=broken)
    (tmp_path / "a.csv").write_text("image,label\n")
    breaks(r".*/a\.csv: ArrowInvalid: .*: make a \.parquet file of it, .*", root=tmp_path / "a.csv")
    config = write_split(tmp_path / "set", "train", [0], [0])
    whole = (tmp_path / "set" / "data" / "train-00000-of-00001.parquet").read_bytes()
    broken.write_bytes(whole[:4] + bytes(200) + whole[204:])
    breaks(r".*/broken\[0\]\*\.parquet: OSError: .*", root=broken)
    breaks(".*: ValueError: .*'other' not found.*subset", source=f"hf:{config.root}:other")
    rows = Dataset.from_dict({"image": cells(png(0))}, features=Features(image=PICTURE))
    DatasetDict(train=rows, test=rows.select([])).save_to_disk(tmp_path / "saved")
    breaks(".*/saved: IndexError: .*: save it anew, without .*no rows", root=tmp_path / "saved")
    denied = PermissionError(13, "Permission denied")
    monkeypatch.setattr(Path, "is_file", lambda _: (_ for _ in ()).throw(denied))
    breaks("hf:closed/a: PermissionError: .*: make it readable", source="hf:closed/a")


def test_the_packages_log_does_not_say_an_error_a_second_time(tmp_path, monkeypatch):
    (handler,) = logging.getLogger("datasets").handlers
    said = io.StringIO()
    monkeypatch.setattr(handler, "stream", said)
    broken = tmp_path / "a.parquet"
    broken.write_bytes(b"PAR1, but no more")
    fails(".*", DataConfig("hf", broken))
    assert said.getvalue() == ""
    logging.getLogger("datasets.builder").error("another's")
    assert said.getvalue() == "another's\n"


def test_a_path_with_colons(plain, tmp_path):
    place = tmp_path / "co:lon" / "a:b.parquet"
    place.parent.mkdir()
    place.write_bytes(plain.root.read_bytes())
    config = DataConfig(source=f"hf:{place}", image_size=SIZE)
    assert numbers(load(config, "train")) == [0, 1, 2, 3, 4, 5]
    assert name_and_subset(f"hf:{place}") == (str(place), "")
    assert name_and_subset(f"hf:{place}:part") == (str(place), "part")
    assert name_and_subset("hf:a:b:c") == ("a", "b:c")


def test_check_of_numbers_that_may_be_classes(tmp_path, capsys):
    columns = {"image": cells(*map(png, range(4))), "label": [0, 1, 0, 1]}
    config = write(tmp_path / "set.parquet", columns, image=PICTURE, label=Value("int64"))
    found = check(config)
    note = "train images have no classes: one can pretrain on them, but not evaluate"
    column = "; if a column has them, pass --data.label-column NAME"
    assert note + column in found.notes()
    assert note in check(replace(config, labels=False)).notes()
    show(found)
    out = capsys.readouterr().out
    assert re.search(r"classes +│ none ", out)
    assert "images in a class" not in out
    found = check(replace(config, label_column="label"))
    assert "no classes" not in " ".join(found.notes())
    show(found)
    out = capsys.readouterr().out
    assert re.search(r"classes +│ 2 ", out)
    assert re.search(r"images in a class +│ 2 ", out)


def test_package_that_is_missing_or_old(plain, monkeypatch):
    monkeypatch.setattr(datasets, "__version__", "3.6.0")
    fails("the package datasets 3.6.0 may run code .*: pip install 'iclmsr.hf.'", plain)
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = "data.source hf needs .*, which is not installed: pip install 'iclmsr.hf.'"
    fails(message, plain)


def test_options_that_do_not_go_together(plain, tmp_path):
    fails(
        f"data.source 'hf:a/b' names the data, and so does data.root {plain.root}: leave out .*",
        replace(plain, source="hf:a/b"),
    )
    fails("data.masks is for images in files, .*--data.mask-column", replace(plain, masks=tmp_path))
    for name in ("image_column", "label_column", "mask_column"):
        option = name.replace("_", "-")
        with pytest.raises(IclmsrError, match=f"^data.{option} is for data.source hf, .*'folder'"):
            DataConfig(source="folder", **{name: "x"})
    fails("unknown data.source 'folder:x': did you mean 'folder'.", DataConfig(source="folder:x"))


def test_prepared_images_are_the_same_and_changed_files_are_noticed(plain, monkeypatch):
    expected = load(plain, "train")
    prepare(plain, "train")
    with monkeypatch.context() as patch:
        patch.setattr(rows, "_content", lambda cell: pytest.fail("read"))
        found = load(plain, "pretrain")
        limited = load(replace(plain, limit=2), "train")
    assert found.fingerprint() == expected.fingerprint()
    assert found.classes == expected.classes
    assert (
        limited.fingerprint() == load(replace(plain, limit=2, cache=False), "train").fingerprint()
    )
    columns = {"image": cells(*map(png, range(6, 9))), "label": [0, 1, 0]}
    write(plain.root, columns, image=PICTURE, label=AB)
    os.utime(plain.root, (1, 1))
    with pytest.warns(UserWarning, match=f"have changed since: reading .* from {plain.root}"):
        assert numbers(load(plain, "train")) == [6, 7, 8]


def on_disk(config, **values):
    return open_split(replace(config, resident="disk", **values), "pretrain")


def fetched(files, *index, workers=0):
    """Images and masks, if there are any, at these places: by worker processes if there are any."""
    index = torch.tensor(index or range(len(files)))
    with feed_of(files, torch.device("cpu"), workers) as feed:
        feed.expect([index])
        found = feed.fetch(index) if files.masks is None else feed.fetch_masked(index)
        assert (feed.loader is not None) == (workers > 0)
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_stay_on_disk_are_the_same(plain, workers, monkeypatch):
    held, files = load(plain, "pretrain"), on_disk(plain)
    assert isinstance(files, FileSet)
    assert (files.classes, files.labels.tolist()) == (held.classes, held.labels.tolist())
    if workers:
        monkeypatch.setattr(feed_module, "decode", None)  # the workers have their own
        monkeypatch.setattr(feed_module, "PIECE", 2)
    assert torch.equal(fetched(files, 4, 1, 4, 0, 5, workers=workers), held.images[[4, 1, 4, 0, 5]])
    few = on_disk(plain, limit=3, seed=2)
    held = load(replace(plain, limit=3, seed=2), "pretrain")
    assert torch.equal(fetched(few, workers=workers), held.images)


def test_columns_stay_on_disk_if_they_are_large(plain, monkeypatch):
    assert isinstance(open_split(plain, "pretrain"), ImageSet)
    monkeypatch.setattr("iclmsr.data.file_set.machine_memory", lambda: 4 * 1152 - 1)
    assert isinstance(open_split(plain, "pretrain"), FileSet)
    assert isinstance(open_split(replace(plain, limit=5), "pretrain"), ImageSet)
    assert isinstance(open_split(replace(plain, resident="memory"), "pretrain"), ImageSet)


def test_masks_and_paths_that_stay_on_disk(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    paths = [str(tmp_path / f"{number}.png") for number in (1, 0, 2)]
    columns = {"picture": paths, "mask": cells(*map(gray, (7, 8, 9)))}
    config = write(tmp_path / "set.parquet", columns, picture=Value("string"), mask=PICTURE)
    config = replace(config, image_column="picture")
    files, held = on_disk(config), load(config, "pretrain")
    for workers in (0, 2):
        found = fetched(files, workers=workers)
        assert torch.equal(found.images, held.images)
        assert torch.equal(found.masks, held.masks)
    before = files.fingerprint()
    (tmp_path / "1.png").write_bytes(png(1) + b"more")
    assert on_disk(config).fingerprint() != before
    (tmp_path / "1.png").unlink()
    assert on_disk(config).fingerprint() != before  # and no error yet


@pytest.mark.parametrize("spoilt", [png(1)[:-40], b"", None])
def test_damage_on_disk_is_met_when_it_is_read(tmp_path, spoilt):
    columns = {"image": cells(png(0), spoilt, png(2))}
    config = write(tmp_path / "set.parquet", columns, image=PICTURE)
    files = on_disk(config)
    files.fingerprint()
    row = r"row 1 of column 'image' of .*/set\.parquet, split train"
    with pytest.raises(IclmsrError, match=rf"^{row} does not decode \(.*--data\.on-corrupt skip"):
        fetched(files)
    files = on_disk(config, on_corrupt="skip")
    with pytest.warns(UserWarning, match=rf"^{row} does not decode .*: row 2 of .* its place$"):
        found = fetched(files)
    assert torch.equal(found, torch.stack([pixels_of(png(number)) for number in (0, 2, 2)]))


def test_a_set_on_disk_is_known_by_rows_sizes_and_labels(plain, tmp_path):
    known = on_disk(plain).fingerprint()
    moved = tmp_path / "elsewhere" / "other.parquet"
    moved.parent.mkdir()
    moved.write_bytes(plain.root.read_bytes())
    assert on_disk(replace(plain, root=moved)).fingerprint() == known
    assert on_disk(plain, limit=5).fingerprint() != known
    assert on_disk(plain, labels=False).fingerprint() != known
    columns = {"image": cells(*map(png, range(5)), png(5) + b"x"), "label": [0, 1, 0, 1, 0, 1]}
    assert on_disk(write(moved, columns, image=PICTURE, label=AB)).fingerprint() != known


def test_sizes_are_known_without_reading(plain, monkeypatch):
    files = on_disk(plain)
    monkeypatch.setattr(rows, "_content", lambda cell: pytest.fail("read"))
    sizes = [files.tree.reader(name).size for name in files.files]
    assert sizes == [len(png(number)) for number in range(6)]


def test_another_process_opens_the_rows_once(plain):
    files = on_disk(plain)
    pieces = [files.tasks(torch.tensor([2, row])) for row in (0, 1)]
    first, second = (pickle.loads(pickle.dumps(piece)) for piece in pieces)
    assert first[0].image.rows is not files.tree
    assert first[0].image.rows is second[1].image.rows
    assert [task.image() for task in (*first, *second)] == [png(n) for n in (2, 0, 2, 1)]


def test_files_that_are_gone_before_a_worker_opens_them(tmp_path, monkeypatch):
    columns = {"image": cells(*map(png, range(6)))}
    Dataset.from_dict(columns, features=Features({"image": PICTURE})).save_to_disk(tmp_path / "set")
    files = on_disk(DataConfig(source="hf", root=tmp_path / "set", image_size=SIZE))
    shutil.rmtree(tmp_path / "set")
    message = rf"^cannot read column 'image' of {tmp_path}/set, .*{tmp_path}/set/.*: put it back$"
    with pytest.raises(IclmsrError, match=message):
        fetched(files, workers=2)


def test_rows_are_mapped_whatever_the_package_is_told(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "IN_MEMORY_MAX_SIZE", 1 << 40)
    saved = tmp_path / "saved"
    datasets.load_dataset("parquet", data_files=str(plain.root))["train"].save_to_disk(saved)
    for config in (plain, replace(plain, root=saved)):
        piece = pickle.dumps(on_disk(config).tasks(torch.arange(6)))
        assert not any(png(number) in piece for number in range(6))


@pytest.mark.parametrize("kind", [pa.binary, pa.binary_view, pa.large_binary])
def test_columns_of_any_kind_of_bytes(tmp_path, kind):
    pq.write_table(pa.table({"raw": pa.array([png(0), png(1)], kind())}), tmp_path / "set.parquet")
    config = DataConfig("hf", tmp_path / "set.parquet", SIZE, image_column="raw")
    assert numbers(load(config, "train")) == [0, 1]


def test_a_declared_class_without_rows_is_no_problem(tmp_path):
    abc = ClassLabel(names=["ant", "bee", "cat"])
    columns = {"image": cells(*map(png, range(3))), "label": [0, 2, 0]}
    config = write(tmp_path / "set.parquet", columns, image=PICTURE, label=abc)
    found = check(config)
    assert found.problems() == []
    assert "there are no train images of: bee" in found.notes()
    assert load(config, "train").labels.tolist() == [0, 2, 0]


def test_check_looks_at_every_row(tmp_path, capsys):
    pictures = cells(png(0), png(1, format="JPEG"), b"no image", png(0), png(4, size=9))
    columns = {"image": pictures, "mask": cells(*map(gray, (8, 8, 8))) + [None] * 2}
    columns["label"] = [0, 0, 0, 1, 1]
    config = write(tmp_path / "set.parquet", columns, image=PICTURE, mask=PICTURE, label=AB)
    assert guess(config.root) == config
    found = check(config)
    split = found.splits["train"]
    assert split.counts() == {"ant": 3, "bee": 2}
    assert split.formats == {"PNG": 3, "JPEG": 1}
    assert split.sizes == {(8, 8): 3, (9, 9): 1}
    assert list(split.corrupt) == ["train/2.png"]
    assert sorted(split.masks.unusable) == ["train/3.png", "train/4.png"]
    assert found.copies == [[("train", "train/0.png"), ("train", "train/3.png")]]
    assert found.problems()[0] == "not one train image can be used of: bee"
    assert len(found.problems()) == 3
    skipping = check(replace(config, on_corrupt="skip", mask_column=""))
    assert skipping.problems() == []
    assert skipping.notes()[0].startswith("no test images: an encoder can be pretrained")
    assert draw_sample(skipping, 9, seed=0).names == ("ant", "ant", "bee", "bee")
    words = ["check", str(config.root), "--data.on-corrupt", "skip", "--data.mask-column", ""]
    assert cli.main(["data", *words]) == 0
    assert "source hf, read as 8 x 8 pixels" in capsys.readouterr().out
    assert cli.main(["data", "prepare", "--data.source", "hf", "--data.root", *words[1:]]) == 0
    assert "no test images" in capsys.readouterr().out


def test_what_holds_columns(tmp_path, plain):
    assert guess(write_split(tmp_path / "set", "train", [0], [0]).root).source == "hf"
    part = Dataset.from_dict({"image": cells(png(3))}, features=Features(image=PICTURE))
    part.save_to_disk(tmp_path / "saved")
    assert guess(tmp_path / "saved") == DataConfig("hf", tmp_path / "saved", SIZE)
    (tmp_path / "set" / "a").mkdir()
    (tmp_path / "set" / "a" / "0.PNG").write_bytes(png(0))
    assert guess(tmp_path / "set").source == "folder"
    plain.root.write_bytes(b"PAR1, but no more")
    assert guess(plain.root).source == "hf"
    assert "cannot load" in check(guess(plain.root)).problems()[0]


def test_other_columns_are_prepared_apart(tmp_path):
    columns = {"left": cells(png(0)), "right": cells(png(1))}
    config = write(tmp_path / "set.parquet", columns, left=PICTURE, right=PICTURE)
    config = replace(config, source=f"hf:{config.root}", root=None)
    assert numbers(prepare(replace(config, image_column="left"), "train")) == [0]
    assert numbers(prepare(replace(config, image_column="right"), "train")) == [1]
    write(tmp_path / "b.parquet", columns, left=PICTURE, right=PICTURE)
    prepare(replace(config, source=f"hf:{tmp_path}/b.parquet", image_column="left"), "train")
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_run_remembers_the_whole_path(plain, tmp_path, monkeypatch):
    configs = []
    monkeypatch.setattr(
        "iclmsr.pretrain.pretrain", lambda config, out: configs.append(config) or out
    )
    monkeypatch.chdir(tmp_path)
    shutil.copy(plain.root, tmp_path / "co:lon")
    for source in ("hf:set.parquet:part", "hf:uoft-cs/cifar10", "hf:co:lon"):
        assert cli.main(["pretrain", "simclr-cifar10", "--data.source", source]) == 0
    found = [config.data.source for config in configs]
    assert found == [
        f"hf:{tmp_path}/set.parquet:part",
        "hf:uoft-cs/cifar10",
        f"hf:{tmp_path}/co:lon",
    ]
    assert absolute("hf:") == "hf:"
