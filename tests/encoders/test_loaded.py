# SPDX-License-Identifier: Apache-2.0
"""Encoders of every origin: the same features as their own library's, or a list of what differs."""

import copy
import json
import re
import sys
from argparse import Namespace
from collections import OrderedDict

import onnx
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from onnx import TensorProto, helper
from torch import nn

from iclmsr.config import PretrainConfig, encode
from iclmsr.data.sources import DataConfig
from iclmsr.encoders import Preprocessing, load_encoder
from iclmsr.errors import IclmsrError
from iclmsr.networks import EncoderConfig, initial_encoder, write_encoder
from iclmsr.runs import RunFolder
from iclmsr.seeds import generator

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CONFIG = EncoderConfig(width=4)


def images(size=32, count=3):
    return torch.randn(count, 3, size, size, generator=generator(0, "images"))


def moved(network, seed=1):
    """With statistics and scales that differ from those of a new network."""
    source = generator(seed, "weights")
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor + 0.1 * torch.rand(tensor.shape, generator=source))
    return network.eval()


def features(network, x):
    with torch.no_grad():
        found = network(x)
    assert found.std() > 1e-3
    return found


@pytest.fixture
def encoder():
    return moved(initial_encoder(CONFIG, 0))


@pytest.fixture
def run(tmp_path, encoder):
    data = DataConfig(source="stl10", image_size=96, evaluate_resize=70, evaluate_crop=64)
    config = PretrainConfig(recipe="simclr-stl10", encoder=CONFIG, data=data)
    folder = RunFolder.create(tmp_path / "run", encode(config), {})
    write_encoder(folder.encoder, encoder, CONFIG, epoch=2)
    return folder


def test_a_run_and_its_file_wherever_it_lies(run, encoder, tmp_path):
    for source in (run.path, str(run.path), run.encoder):
        loaded = load_encoder(source)
        assert torch.equal(features(loaded.network, images()), features(encoder, images()))
        assert not any(module.training for module in loaded.network.modules())
        assert (loaded.image_size, loaded.resize, loaded.crop) == (96, 70, 64)
        assert loaded.preprocessing.seen == 64
        assert (loaded.mean, loaded.std) == (DataConfig().mean, DataConfig().std)
        assert loaded.metadata["epoch"] == 2
        assert len(loaded.sha256) == 64
    assert load_encoder(run.path).name == "simclr-stl10"
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(run.encoder.read_bytes())
    with pytest.raises(IclmsrError, match="does not say how images are prepared: pass its run"):
        load_encoder(alone)
    about = Preprocessing((0.5,) * 3, (0.25,) * 3, 24)
    write_encoder(alone, encoder, CONFIG, preprocessing=about.to_json())
    assert load_encoder(alone).preprocessing == about
    assert load_encoder(alone).name == "alone"


def test_a_run_folder_without_an_encoder_yet(run):
    run.encoder.unlink()
    with pytest.raises(IclmsrError, match="no checkpoint yet"):
        load_encoder(run.path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvisions_state_dict(tmp_path, suffix):
    network = moved(torchvision.models.resnet18(num_classes=5))
    path = tmp_path / f"weights{suffix}"
    save = torch.save if suffix == ".pth" else safetensors.torch.save_file
    save(network.state_dict(), path)
    loaded = load_encoder(f"torchvision:resnet18@{path}")
    network.fc = nn.Identity()
    assert torch.equal(features(loaded.network, images()), features(network, images()))
    assert loaded.metadata["dropped"] == ["fc"]
    assert loaded.remarks() == [f"left out of torchvision:resnet18@{path.name}: fc"]
    assert (loaded.mean, loaded.std, loaded.image_size) == (*IMAGENET, 224)


def test_a_state_dict_of_a_torch_that_counted_no_batches(tmp_path):
    network = torchvision.models.resnet18()
    old = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    torch.save(old, tmp_path / "old.pth")
    load_encoder(f"torchvision:resnet18@{tmp_path / 'old.pth'}")


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "convnext_atto", "test_vit", "resnet18"])
def test_timms_models(tmp_path, name):
    """convnext has a norm within its head, which is no head here."""
    network = moved(timm.create_model(name, num_classes=7))
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, tmp_path / "w.pth.tar")
    loaded = load_encoder(f"timm:{name}@{tmp_path / 'w.pth.tar'}")
    network.reset_classifier(0)
    size = network.pretrained_cfg["input_size"][-1]
    assert torch.allclose(
        features(loaded.network, images(size, 1)), features(network, images(size, 1)), atol=1e-6
    )
    assert loaded.image_size == size
    assert loaded.mean == network.pretrained_cfg["mean"]


def checkpoint(network, branch="", **others):
    """The state dict of a method around a ResNet whose fc is a head."""
    state = OrderedDict((branch + key, value) for key, value in network.state_dict().items())
    for prefix, module in others.items():
        prefix = prefix.replace("__", ".")
        state |= {f"{prefix}.{key}": value for key, value in module.state_dict().items()}
    return state


def resnet(config=CONFIG, fc=None, seed=3):
    network = moved(initial_encoder(config, seed)).network
    if fc is not None:
        network.fc = fc
    return network


def body(network):
    """lightly's usual backbone."""
    return nn.Sequential(*list(network.children())[:-1])


HEAD = nn.Sequential(nn.Linear(32, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
IMAGENET_STEM = EncoderConfig(width=4, stem="imagenet")
OTHER = 7  # the seed of branches that must not be taken


def moco():
    q, k = resnet(IMAGENET_STEM, HEAD), resnet(IMAGENET_STEM, HEAD, OTHER)
    state = checkpoint(q, "module.encoder_q.", module__encoder_k=k)
    state |= {"module.queue": torch.zeros(4, 8), "module.queue_ptr": torch.zeros(1)}
    value = {"epoch": 9, "arch": "resnet18", "state_dict": state, "optimizer": {"state": {}}}
    return value, ["module.encoder_k", "module.encoder_q.fc", "module.queue", "module.queue_ptr"]


def moco_v3():
    q, k = resnet(IMAGENET_STEM, HEAD), resnet(IMAGENET_STEM, HEAD, OTHER)
    state = checkpoint(
        q, "module.base_encoder.", module__momentum_encoder=k, module__predictor=HEAD
    )
    dropped = ["module.base_encoder.fc", "module.momentum_encoder", "module.predictor"]
    return {"state_dict": state}, dropped


def solo_learn():
    momentum = resnet(seed=OTHER)
    state = checkpoint(
        resnet(), "backbone.", projector=HEAD, classifier=HEAD, momentum_backbone=momentum
    )
    value = {"state_dict": state, "pytorch-lightning_version": "2", "hyper_parameters": {"lr": 1}}
    return value, ["classifier", "momentum_backbone", "projector"]


def lightly_byol():
    state = checkpoint(
        body(resnet(IMAGENET_STEM)),
        "backbone.",
        projection_head=HEAD,
        prediction_head=HEAD,
        backbone_momentum=body(resnet(IMAGENET_STEM, seed=OTHER)),
        projection_head_momentum=HEAD,
    )
    dropped = ["backbone_momentum", "prediction_head", "projection_head"]
    return {"state_dict": state}, [*dropped, "projection_head_momentum"]


def lightly_dino():
    state = checkpoint(
        body(resnet(IMAGENET_STEM)),
        "student_backbone.",
        student_head=HEAD,
        teacher_backbone=body(resnet(IMAGENET_STEM, seed=OTHER)),
        teacher_head=HEAD,
    )
    state["criterion.center"] = torch.zeros(1, 4)
    return state, ["criterion", "student_head", "teacher_backbone", "teacher_head"]


def online_network():
    state = checkpoint(
        resnet(), "online_network.", target_network=resnet(seed=OTHER), predictor=HEAD
    )
    return {"model": state}, ["predictor", "target_network"]


def bare():
    return resnet(fc=nn.Linear(32, 10)).state_dict(), ["fc"]


CHECKPOINTS = [moco, moco_v3, solo_learn, lightly_byol, lightly_dino, online_network, bare]


@pytest.mark.parametrize("make", CHECKPOINTS, ids=lambda make: make.__name__)
def test_checkpoints_of_other_libraries(tmp_path, make):
    value, dropped = make()
    torch.save(value, tmp_path / "last.ckpt")
    loaded = load_encoder(tmp_path / "last.ckpt")
    stem = loaded.metadata["encoder"]["stem"]
    true = resnet(EncoderConfig(width=4, stem=stem))
    assert torch.equal(features(loaded.network, images(64)), features(true, images(64)))
    assert sorted(loaded.metadata["dropped"]) == dropped
    assert loaded.image_size is None
    said = " ".join(loaded.remarks())
    assert all(name in said for name in dropped)
    assert "no max-pool" in said or stem == "imagenet"


def test_lightlys_own_resnet(tmp_path):
    lightly = pytest.importorskip("lightly.models")
    network = moved(lightly.ResNetGenerator("resnet-18", width=1 / 16))
    torch.save(checkpoint(network, "backbone."), tmp_path / "a.ckpt")
    network.linear = nn.Identity()
    loaded = load_encoder(tmp_path / "a.ckpt")
    assert torch.allclose(
        features(loaded.network, images()), features(network, images()), atol=1e-5
    )
    torch.save(checkpoint(body(network), "backbone."), tmp_path / "b.ckpt")
    with pytest.raises(IclmsrError, match="where the first ReLU is lost"):
        load_encoder(tmp_path / "b.ckpt")


def test_a_timm_model_within_a_method(tmp_path):
    network = moved(timm.create_model("test_vit", num_classes=0))
    state = checkpoint(network, "student.module.backbone.", teacher=HEAD)
    torch.save(state, tmp_path / "dino.pth")
    with pytest.raises(IclmsrError, match="name it as timm:MODEL@FILE"):
        load_encoder(tmp_path / "dino.pth")
    nested = {"student": checkpoint(network, "module.backbone."), "teacher": HEAD.state_dict()}
    torch.save(nested, tmp_path / "dino.pth")
    loaded = load_encoder(f"timm:test_vit@{tmp_path / 'dino.pth'}")
    x = images(160, 1)
    assert torch.equal(features(loaded.network, x), features(network, x))


def broken(kind):
    state = dict(resnet().state_dict())
    if kind == "missing":
        del state["layer2.0.bn1.weight"], state["layer3.1.bn2.bias"]
        return state, "2 missing: layer2.0.bn1.weight, layer3.1.bn2.bias$"
    if kind == "unexpected":
        return {**state, "extra.weight": torch.zeros(2)}, "1 unexpected: extra.weight$"
    if kind == "shape":
        state["layer1.0.conv1.weight"] = torch.zeros(4, 4, 1, 1)
        return state, re.escape("layer1.0.conv1.weight (4, 4, 1, 1) instead of (4, 4, 3, 3)") + "$"
    if kind == "beside":
        state = {f"encoder_q.{key}": value for key, value in state.items()}
        return {**state, "adapter.bias": torch.zeros(2)}, "1 unexpected: adapter.bias$"
    return {f"layer9.{k}": torch.zeros(1) for k in range(12)}, "does not say which encoder it is of"


@pytest.mark.parametrize("kind", ["missing", "unexpected", "shape", "beside", "nothing"])
def test_keys_that_do_not_match_are_listed(tmp_path, kind):
    state, message = broken(kind)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(IclmsrError, match=message) as caught:
        load_encoder(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


def test_another_model_than_it_is_said_to_be(tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "a.pth")
    with pytest.raises(
        IclmsrError,
        match=r"do not fit the encoder: \d+ missing: layer1.2.conv1.weight, ",
    ) as caught:
        load_encoder(f"torchvision:resnet34@{tmp_path / 'a.pth'}")
    (count,) = re.findall(r"(\d+) missing", str(caught.value))
    named = re.findall(r"layer\d\.\d\.\S+(?:weight|bias|running_\w+)", str(caught.value))
    assert len(set(named)) == int(count) > 50


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


def test_objects_are_never_unpickled(tmp_path):
    for value, name in ((Evil(), "exec"), (Namespace(lr=1), "argparse.Namespace")):
        torch.save({"state_dict": resnet().state_dict(), "args": value}, tmp_path / "a.ckpt")
        with pytest.raises(IclmsrError, match=rf"holds an object \(.*{name}\).*weights_only=False"):
            load_encoder(tmp_path / "a.ckpt")


@pytest.mark.parametrize("name", ["a.pth", "a.ckpt", "a.safetensors", "a.onnx"])
def test_damaged_files(tmp_path, name, capfd):
    for content in (b"", b"no weights\n", bytes(range(256)) * 9):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(IclmsrError, match=f"{name} is no") as caught:
            load_encoder(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_checkpoint_that_is_cut_off(tmp_path):
    torch.save(resnet().state_dict(), tmp_path / "a.pth")
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:9000])
    with pytest.raises(IclmsrError, match="a.pth is not a file of torch.save, or is damaged$"):
        load_encoder(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("DIR/none", "no encoder at DIR/none: pass a run folder"),
        ("DIR", "no encoder in DIR: pass a run folder"),
        ("DIR/none.pth", "no encoder at DIR/none.pth"),
        ("DIR/none.onnx", "no encoder at DIR/none.onnx: there is no such file"),
        ("torchvision:resnet18@DIR/none.pth", "no weights at DIR/none.pth: there is no such file"),
        ("torchvision:resnet18@DIR", "it is a folder, name the file in it"),
        ("torchvision:resnet18", "write it as torchvision:MODEL@FILE"),
        ("torchvision:resnet19@a.pth", "did you mean 'resnet18'"),
        ("timm:vit_tinny_patch16_224@a.pth", "no model .* did you mean 'vit_tiny_patch16_224'"),
    ],
)
def test_there_is_no_such_encoder(tmp_path, source, message):
    with pytest.raises(IclmsrError, match=message.replace("DIR", str(tmp_path))):
        load_encoder(source.replace("DIR", str(tmp_path)))


def onnx_model(path, batch, side="s", about=None, pooled=True):
    """The mean of each channel as features."""
    shape = (batch, 3, side, side)
    pool = {"axes": [2, 3], "keepdims": 0} if pooled else {"axes": [2], "keepdims": 1}
    node = helper.make_node("ReduceMean", ["x"], ["y"], **pool)
    result = (batch, 3) if pooled else (batch, 3, 1, side)
    graph = helper.make_graph(
        [node],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if about is not None:
        helper.set_model_props(model, {"iclmsr": json.dumps(about)})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("batch", ["n", 1, 2, 5])
def test_an_onnx_file_takes_any_batch(tmp_path, batch):
    loaded = load_encoder(onnx_model(tmp_path / "a.onnx", batch))
    for count in (1, 3, 4):
        x = images(8, count)
        assert torch.allclose(features(loaded.network, x), x.mean((2, 3)), atol=1e-6)
    assert (loaded.mean, loaded.std, loaded.image_size) == (*IMAGENET, None)
    assert "ImageNet" in loaded.remarks()[0]
    assert load_encoder(onnx_model(tmp_path / "b.onnx", batch, 8)).image_size == 8


def test_an_onnx_file_of_ours_says_how_images_are_prepared(tmp_path):
    about = Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 96, 70, 64)
    value = {"name": "first", "epoch": 3, "preprocessing": about.to_json()}
    loaded = load_encoder(onnx_model(tmp_path / "a.onnx", "n", about=value))
    assert loaded.preprocessing == about
    assert (loaded.name, loaded.metadata, loaded.remarks()) == ("first", {"epoch": 3}, [])


def test_onnx_files_that_are_no_encoder(tmp_path):
    with pytest.raises(IclmsrError, match="must return features .* end the model with a pooling"):
        load_encoder(onnx_model(tmp_path / "a.onnx", "n", pooled=False))
    loaded = load_encoder(onnx_model(tmp_path / "b.onnx", "n", 8))
    with pytest.raises(IclmsrError, match=r"does not run on images \(3, 3, 9, 9\)"):
        loaded.network(images(9))


def test_without_onnx_runtime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(IclmsrError, match=r"needs ONNX Runtime \(.*pip install 'iclmsr\[onnx\]'$"):
        load_encoder(tmp_path / "a.onnx")


def test_a_network_stays_as_it_was_where_weights_do_not_fit(tmp_path):
    from iclmsr.encoders.weights import put

    network = resnet()
    before = copy.deepcopy(network.state_dict())
    state = {k: v + 1 for k, v in network.state_dict().items() if k != "bn1.weight"}
    with pytest.raises(IclmsrError, match="1 missing: bn1.weight"):
        put(network, state, "here")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
