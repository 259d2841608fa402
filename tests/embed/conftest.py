# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from pictures import picture
from PIL import Image

from iclmsr.config import PretrainConfig, encode
from iclmsr.data.sources import DataConfig
from iclmsr.encoders import Preprocessing
from iclmsr.networks import EncoderConfig, initial_encoder, write_encoder
from iclmsr.runs import RunFolder
from iclmsr.seeds import generator

DATA = DataConfig(
    source="folder", root="images", image_size=24, evaluate_resize=20, evaluate_crop=16
)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run whose encoder is shown images resized twice and cropped."""
    config = EncoderConfig(width=4)
    encoder = initial_encoder(config, 1)
    for name, tensor in encoder.state_dict().items():
        if "running_var" in name or name.endswith("bias"):
            tensor.add_(0.3 * torch.rand(tensor.shape, generator=generator(2, name)))
    whole = PretrainConfig(recipe="simclr-folder", encoder=config, data=DATA)
    folder = RunFolder.create(tmp_path_factory.mktemp("runs") / "run", encode(whole), {})
    about = Preprocessing.of(DATA).to_json()
    write_encoder(folder.encoder, encoder, config, epoch=2, preprocessing=about)
    return folder.path


@pytest.fixture
def images(tmp_path):
    """Seven pictures of three sizes in nested folders, and a mask that is none."""
    root = tmp_path / "images"
    for number in range(7):
        folder = root / ("a" if number < 4 else "b/c")
        folder.mkdir(parents=True, exist_ok=True)
        picture(number, ((40, 28), (24, 24), (17, 50))[number % 3]).save(folder / f"{number}.png")
    (root / "masks").mkdir()
    Image.new("L", (40, 28)).save(root / "masks" / "0.png")
    return root
