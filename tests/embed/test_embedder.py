# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import numpy as np
import pytest
import torch
from pictures import picture
from PIL import Image

import iclmsr
from iclmsr.data.sources import DataConfig, load
from iclmsr.embed import Embedder
from iclmsr.embed import load as load_embedder
from iclmsr.encoders import load_encoder
from iclmsr.errors import IclmsrError
from iclmsr.evaluate.features import extract
from iclmsr.networks import EncoderConfig, initial_encoder


def test_importing_is_instant_and_load_is_there():
    script = "import sys, iclmsr; assert not {'torch', 'numpy', 'sklearn'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert iclmsr.load is load_embedder
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        iclmsr.laod  # noqa: B018


def test_the_same_features_as_evaluation(run, images):
    """Files of several sizes, one by one, against the path that accuracies come from."""
    data = DataConfig(
        source="folder", root=images, labels=False, masks=images / "masks", image_size=24
    )
    (images / "masks" / "0.png").rename(images / "masks" / "0.txt")
    from dataclasses import replace

    data = replace(data, masks=None, evaluate_resize=20, evaluate_crop=16)
    seen = load(data, "train")
    assert seen.images.shape == (7, 3, 16, 16)
    seen = replace(seen, labels=torch.zeros(7, dtype=torch.int64))
    loaded = load_encoder(run)
    expected = extract(loaded.network, seen, mean=loaded.mean, std=loaded.std).features
    files = sorted(images.rglob("*.png"))
    found = iclmsr.load(run).embed(files)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_every_form_of_an_image_is_the_same_image(run, tmp_path):
    encoder = iclmsr.load(run, device="cpu")
    image = picture(0)
    path = tmp_path / "0.png"
    image.save(path)
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    expected = encoder.embed(image)
    assert expected.shape == (1, 32)
    assert expected.dtype == np.float32
    forms = {
        "path": path,
        "text": str(path),
        "list": [image],
        "array": array,
        "arrays": array[None],
        "tensor": tensor,
        "tensors": tensor[None],
        "float": tensor.float() / 255,
        "half": (tensor.double() / 255)[None],
        "generator": (one for one in (image,)),
    }
    for name, form in forms.items():
        assert np.array_equal(encoder.embed(form), expected), name


def test_lists_may_be_mixed_and_keep_their_order(run, tmp_path):
    encoder = iclmsr.load(run)
    others = [picture(number, (20 + number, 30)) for number in range(5)]
    others[1].save(tmp_path / "1.png")
    mixed = [
        others[0],
        tmp_path / "1.png",
        np.asarray(others[2]),
        torch.from_numpy(np.asarray(others[3]).copy()).permute(2, 0, 1),
        others[4],
    ]
    expected = np.concatenate([encoder.embed(one) for one in others])
    assert len(np.unique(expected.round(4), axis=0)) == 5
    for batch_size in (1, 2, 64):
        found = encoder.embed(mixed, batch_size=batch_size)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    pair = np.stack([np.asarray(picture(number)) for number in (5, 6)])
    np.testing.assert_allclose(
        encoder.embed(pair), encoder.embed([picture(5), picture(6)]), atol=1e-6
    )


def test_gray_transparent_and_turned_images(run, tmp_path):
    encoder = iclmsr.load(run)
    gray = picture(0).convert("L")
    assert np.array_equal(encoder.embed(gray), encoder.embed(gray.convert("RGB")))
    assert np.array_equal(encoder.embed(picture(0).convert("RGBA")), encoder.embed(picture(0)))
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(0).save(tmp_path / "turned.png", exif=turned)
    upright = picture(0).transpose(Image.Transpose.ROTATE_270)
    opened = Image.open(tmp_path / "turned.png")
    assert np.array_equal(encoder.embed(tmp_path / "turned.png"), encoder.embed(upright))
    assert np.array_equal(encoder.embed(opened), encoder.embed(upright))


def test_size_and_constants_may_be_said_otherwise(run):
    image = picture(0, (16, 16))
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255
    network = load_encoder(run).network
    with torch.no_grad():
        expected = network((pixels - 0.5) / 0.25).numpy()
    encoder = iclmsr.load(run, image_size=16, mean=(0.5,) * 3, std=(0.25,) * 3)
    np.testing.assert_allclose(encoder.embed(image), expected, atol=1e-5)
    assert not np.allclose(iclmsr.load(run, image_size=16).embed(image), expected, atol=1e-3)


def test_an_encoder_that_does_not_know_its_size(tmp_path):
    state = initial_encoder(EncoderConfig(width=2), 0).network.state_dict()
    torch.save({f"backbone.{key}": value for key, value in state.items()}, tmp_path / "a.ckpt")
    with pytest.raises(IclmsrError, match="a.ckpt does not say how large .* pass image_size"):
        iclmsr.load(tmp_path / "a.ckpt")
    assert iclmsr.load(tmp_path / "a.ckpt", image_size=16).embed(picture(0)).shape == (1, 16)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "at least one image, got none"),
        (3, "int is no image: pass a path, a PIL image"),
        (b"bytes", "bytes is no image"),
        (np.zeros((4, 4), np.uint8), r"\(H, W, 3\) or \(N, H, W, 3\) uint8, got \(4, 4\) uint8"),
        (np.zeros((3, 4, 4), np.uint8), r"got \(3, 4, 4\) uint8"),
        (np.zeros((4, 4, 3)), r"got \(4, 4, 3\) float64"),
        (torch.zeros(4, 4, 3), r"\(3, H, W\) or \(N, 3, H, W\), got \(4, 4, 3\) float32"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), r"uint8 or float in \[0, 1\], got .* int64"),
        (torch.full((3, 4, 4), -0.5), r"in \[0, 1\], got -0.5 to -0.5: pass pixels before they"),
        (torch.full((3, 4, 4), float("nan")), r"in \[0, 1\], got nan"),
        ("/nowhere.png", "/nowhere.png does not decode"),
        ("/", "/ is a folder: pass its files"),
    ],
)
def test_what_is_no_image(run, images, message):
    with pytest.raises(IclmsrError, match=message) as caught:
        iclmsr.load(run).embed(images)
    assert "\n" not in str(caught.value)


def test_options_that_make_no_sense(run):
    encoder = iclmsr.load(run)
    with pytest.raises(IclmsrError, match="batch_size must be >= 1, got 0"):
        encoder.embed(picture(0), batch_size=0)
    with pytest.raises(IclmsrError, match="image_size must be > 0 pixels, got 0"):
        iclmsr.load(run, image_size=0)
    with pytest.raises(IclmsrError, match="std must be > 0"):
        iclmsr.load(run, std=(0.1, 0, 0.1))


def test_an_encoder_that_has_diverged(run):
    loaded = load_encoder(run)
    loaded.network.network.bn1.bias.data.fill_(float("nan"))
    with pytest.raises(IclmsrError, match="gives features that are NaN or infinite"):
        Embedder(loaded, loaded.preprocessing).embed(picture(0))
