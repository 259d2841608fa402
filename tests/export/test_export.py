# SPDX-License-Identifier: Apache-2.0
"""Exports: the same features through the other library's own loader, or nothing is written."""

import json
import re
import sys
from dataclasses import replace

import onnxruntime
import pytest
import safetensors
import timm
import torch
import torchvision
from torch import nn

from iclmsr import cli
from iclmsr.config import PretrainConfig, encode
from iclmsr.data.sources import DataConfig
from iclmsr.data.synthetic import SyntheticConfig
from iclmsr.encoders import Preprocessing, load_encoder
from iclmsr.errors import IclmsrError
from iclmsr.evaluate import EvaluateConfig, evaluate
from iclmsr.evaluate.protocol import LinearProbeConfig
from iclmsr.export import export
from iclmsr.export.hub import HubEncoder
from iclmsr.files import write_json
from iclmsr.networks import EncoderConfig, initial_encoder, write_encoder
from iclmsr.runs import RunFolder, environment
from iclmsr.seeds import generator

SMALL = EncoderConfig(width=4)
STANDARD = EncoderConfig(stem="imagenet")
VIT = EncoderConfig("test_vit", options={"img_size": 32})
DATA = DataConfig(source="stl10", image_size=40, evaluate_resize=36, evaluate_crop=32)
SEEN = Preprocessing.of(DATA)
EVALUATION = {
    "protocol": "w-mse-2021",
    "epoch": 3,
    "results": {"encoder": {"linear": {"top1": 61.25}, "knn": {"k": 5, "top1": 55.5}}},
}


def make_run(path, config, **more):
    source = generator(2, "weights")
    encoder = initial_encoder(config, 1).eval()
    for name, tensor in encoder.state_dict().items():
        if "running" in name or name.endswith("bias"):
            tensor.add_(0.3 * torch.rand(tensor.shape, generator=source))
    whole = PretrainConfig(recipe="simclr-stl10", epochs=8, encoder=config, data=DATA, **more)
    folder = RunFolder.create(path, encode(whole), environment(0, images=512))
    write_encoder(folder.encoder, encoder, config, epoch=3, preprocessing=SEEN.to_json())
    return path, encoder


def images(count=5):
    return torch.randn(count, 3, 32, 32, generator=generator(3, "images"))


def features(network, x=None):
    with torch.no_grad():
        return network.eval()(images() if x is None else x)


def check(found, encoder, x=None):
    assert found.std() > 0.01
    torch.testing.assert_close(found, features(encoder, x), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("small") / "run", SMALL)


@pytest.fixture(scope="module")
def standard(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("standard") / "run", STANDARD)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("vit") / "run", VIT)


def test_torchvision_takes_it_strictly(standard, tmp_path):
    run, encoder = standard
    done = export(run, "torchvision", tmp_path / "out")
    assert done.difference <= 1e-5
    network = torchvision.models.resnet18()
    state = torch.load(tmp_path / "out" / "resnet18.pth", weights_only=True)
    network.load_state_dict(state, strict=True)
    assert not network.fc.weight.any()
    network.fc = nn.Identity()
    check(features(network), encoder)
    assert "classifier `fc` is zeros" in (tmp_path / "out" / "README.md").read_text()
    back = load_encoder(f"torchvision:resnet18@{tmp_path / 'out' / 'resnet18.pth'}")
    assert (back.preprocessing, back.name) == (SEEN, "simclr-stl10")
    check(features(back.network), encoder)


@pytest.mark.parametrize("kind", ["standard", "vit"])
def test_timm_makes_it(kind, tmp_path, request):
    run, encoder = request.getfixturevalue(kind)
    out = tmp_path / "out"
    export(run, "timm", out)
    model = timm.create_model(f"local-dir:{out}", pretrained=True)
    check(features(model), encoder)
    config = timm.data.resolve_data_config({}, model=model)
    assert tuple(config["input_size"]) == (3, 32, 32)
    assert (tuple(config["mean"]), tuple(config["std"])) == (DATA.mean, DATA.std)
    assert (config["interpolation"], config["crop_pct"]) == ("bicubic", pytest.approx(32 / 36))
    name, options = (STANDARD.name, {}) if kind == "standard" else (VIT.name, VIT.options)
    path = out / "model.safetensors"
    model = timm.create_model(name, num_classes=0, checkpoint_path=path, **options)
    check(features(model), encoder)
    for source in (out, f"timm:{name}@{path}"):
        back = load_encoder(source)
        assert back.preprocessing == SEEN
        check(features(back.network), encoder)


@pytest.fixture(scope="module")
def in_onnx(small, tmp_path_factory):
    """Made once: torch's exporter takes its time."""
    return export(small[0], "onnx", tmp_path_factory.mktemp("onnx") / "out").folder


def check_onnx(folder, encoder):
    path = folder / "encoder.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for count in (1, 2, 5):
        x = images(count)
        (found,) = session.run(["features"], {"images": x.numpy()})
        check(torch.from_numpy(found), encoder, x)
    about = json.loads(session.get_modelmeta().custom_metadata_map["iclmsr"])
    assert about["preprocessing"] == SEEN.to_json()
    assert b"/src/" not in path.read_bytes()
    assert b"site-packages" not in path.read_bytes()
    back = load_encoder(folder)
    assert (back.preprocessing, back.name, back.metadata["epoch"]) == (SEEN, "simclr-stl10", 3)
    check(features(back.network), encoder)


def test_onnx_runtime_runs_it_for_any_batch(small, in_onnx, tmp_path):
    check_onnx(in_onnx, small[1])
    with pytest.raises(IclmsrError, match="an ONNX file is handed on as it is"):
        export(in_onnx, "hf", tmp_path / "again")


@pytest.mark.long
def test_onnx_runtime_runs_a_vit(vit, tmp_path):
    check_onnx(export(vit[0], "onnx", tmp_path / "out").folder, vit[1])


def test_huggingfaces_mixin_loads_it_from_the_folder(small, tmp_path, capsys):
    run, encoder = small
    export(run, "hf", tmp_path / "out")
    model = HubEncoder.from_pretrained(tmp_path / "out")
    check(features(model), encoder)
    assert model.preprocessing == SEEN
    back = load_encoder(tmp_path / "out")
    assert back.preprocessing == SEEN
    check(features(back.network), encoder)
    assert "recipe | simclr-stl10" in (tmp_path / "out" / "README.md").read_text()


def test_safetensors(small, tmp_path):
    run, encoder = small
    export(run, "safetensors", tmp_path / "out")
    with safetensors.safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    network = initial_encoder(SMALL, 9).network
    network.load_state_dict(state, strict=True)
    check(features(network), encoder)
    for source in (tmp_path / "out", tmp_path / "out" / "model.safetensors"):
        check(features(load_encoder(source).network), encoder)


@pytest.mark.parametrize("format", ["safetensors", "timm", "torchvision", "onnx", "hf"])
def test_what_is_exported_is_judged_as_the_run_is(format, tmp_path, monkeypatch, request):
    """Whatever the folder holds, a config.json of timm's or of Hugging Face's included."""
    monkeypatch.chdir(tmp_path)
    run = request.getfixturevalue("small" if format == "onnx" else "standard")[0]
    out = tmp_path / "out"
    if format == "onnx":
        out = request.getfixturevalue("in_onnx")
    else:
        export(run, format, out)
    own, handed_on = (EvaluateConfig.of(source, "synthetic") for source in (run, out))
    assert own.data == handed_on.data
    data = replace(own.data, synthetic=SyntheticConfig(train=20, test=12))
    quick = replace(own, data=data, linear_probe=LinearProbeConfig(epochs=1), neighbours=())
    results = [evaluate(source, quick, say=lambda line: None)["results"] for source in (run, out)]
    assert results[0]["encoder"]["knn"] == results[1]["encoder"]["knn"]
    assert (run / "evaluation-synthetic.json").is_file()
    assert not (run / "evaluation.json").exists()
    assert (tmp_path / "evaluation-simclr-stl10.json").is_file()


def test_preprocessing_under_hugging_faces_names(small, tmp_path):
    export(small[0], "safetensors", tmp_path / "out")
    value = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert value["image_mean"] == list(DATA.mean)
    assert value["image_std"] == list(DATA.std)
    assert value["size"] == {"shortest_edge": 36}
    assert value["crop_size"] == {"height": 32, "width": 32}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (EncoderConfig(width=4, stem="imagenet"), "stem imagenet and width 4"),
        (EncoderConfig(width=64, stem="cifar"), "stem cifar and width 64"),
    ],
)
@pytest.mark.parametrize("format", ["timm", "torchvision"])
def test_what_a_format_cannot_hold(tmp_path, config, told, format):
    run, _ = make_run(tmp_path / "run", config)
    with pytest.raises(IclmsrError, match=rf"{format} has no resnet18 with {told}: .*; use") as e:
        export(run, format, tmp_path / "out")
    assert "onnx, hf or safetensors" in str(e.value)
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_torchvision_has_no_vit_of_timms(vit, tmp_path):
    with pytest.raises(IclmsrError, match="no test_vit: .* use --format timm, onnx"):
        export(vit[0], "torchvision", tmp_path / "out")


@pytest.mark.parametrize("format", ["safetensors", "hf"])
def test_other_features_are_not_handed_on(small, tmp_path, monkeypatch, format):
    """A writer that loses a little of one weight."""
    whole = torchvision.models.ResNet.state_dict

    def lossy(self, *args, **kwargs):
        state = whole(self, *args, **kwargs)
        return {k: v + 1e-3 if k.endswith("layer4.1.bn2.bias") else v for k, v in state.items()}

    monkeypatch.setattr(torchvision.models.ResNet, "state_dict", lossy)
    with pytest.raises(IclmsrError, match="gives features that differ by .*: nothing was written"):
        export(small[0], format, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_card(tmp_path):
    run, _ = make_run(tmp_path / "run", SMALL, seed=4)
    export(run, "safetensors", tmp_path / "before")
    assert "It was not evaluated." in (tmp_path / "before" / "README.md").read_text()
    write_json(run / "evaluation.json", EVALUATION)
    export(run, "safetensors", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert text.startswith("---\nlicense: apache-2.0\nlibrary_name: iclmsr\n")
    for line in (
        "| recipe | simclr-stl10 |",
        "| method | simclr |",
        "| data | stl10, 40 x 40 |",
        "| images | 512 |",
        "| epochs | 3 of 8 |",
        "| seed | 4 |",
        "| started from | random weights |",
        "Top-1, percent; protocol w-mse-2021.",
        "| encoder | linear | 61.25 |",
        "| encoder | knn | 55.50 |",
        "## Limits",
        "## Licence\nApache-2.0.",
        "2. resize to 36",
        "3. cut out the centre, 32 x 32",
    ):
        assert line in text
    assert str(tmp_path) not in text


def test_results_of_another_epoch_are_said_to_be(tmp_path):
    run, _ = make_run(tmp_path / "run", SMALL)
    write_json(run / "evaluation.json", {**EVALUATION, "epoch": 2})
    export(run, "safetensors", tmp_path / "out")
    assert "w-mse-2021, at epoch 2, not 3." in (tmp_path / "out" / "README.md").read_text()


def test_results_on_other_data_are_not_the_runs(tmp_path):
    run, _ = make_run(tmp_path / "run", SMALL)
    transfer = {**EVALUATION, "config": {"data": {"source": "cifar10"}}}
    write_json(run / "evaluation.json", transfer)
    export(run, "safetensors", tmp_path / "out")
    assert "It was not evaluated." in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("format", ["timm", "torchvision", "onnx", "hf"])
def test_the_cards_code_runs(format, tmp_path, monkeypatch, request):
    kind = "small" if format == "hf" else "standard"
    out = tmp_path / "out"
    if format == "onnx":
        out = request.getfixturevalue("in_onnx")
    else:
        export(request.getfixturevalue(kind)[0], format, out)
    code = re.search(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)[1]
    monkeypatch.chdir(out.parent)
    exec(code, {"images": images().numpy()})


def test_an_export_is_handed_on_as_no_run(standard, tmp_path):
    export(standard[0], "timm", tmp_path / "timm")
    export(tmp_path / "timm", "safetensors", tmp_path / "again")
    assert "license: other" in (tmp_path / "again" / "README.md").read_text()


def test_a_foreign_encoder_is_handed_on_without_inventions(tmp_path):
    network = initial_encoder(SMALL, 1).network
    state = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    torch.save({**state, "projector.weight": torch.zeros(1)}, tmp_path / "a.ckpt")
    done = export(tmp_path / "a.ckpt", "safetensors", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "license: other" in text
    assert "nothing is known here" in text
    assert "* left out of a.ckpt: projector" in text
    assert done.remarks[0] == "left out of a.ckpt: projector"


def test_on_the_command_line(tmp_path, capsys):
    run, _ = make_run(tmp_path / "run", SMALL)
    assert cli.main(["export", str(run), "--format", "safetensors"]) == 0
    out = run / "export-safetensors"
    assert f"wrote {out}: features differ by " in capsys.readouterr().out
    names = ["README.md", "model.safetensors", "preprocessor_config.json"]
    assert sorted(path.name for path in out.iterdir()) == names


@pytest.mark.parametrize("call", ["pathlib.Path.exists", "tempfile.mkdtemp"])
def test_a_place_without_rights(call, small, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    run, _ = small
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(call, refused)  # root may do everything
        message = f"cannot write {out}: Permission denied: name a place that you may write to"
        with pytest.raises(IclmsrError, match=f"^{message}$"):
            export(run, "safetensors", out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "export needs an encoder and a format"),
        ("RUN", "export needs an encoder and a format"),
        ("RUN --format onx -o OUT", "unknown --format 'onx': did you mean 'onnx'?"),
        ("RUN --format onnx -o RUN", "RUN already exists: choose another -o, or remove it"),
        ("RUN/encoder.safetensors --format hf", "export of a file needs a folder"),
        ("/nowhere --format hf -o OUT", "no encoder at /nowhere"),
        ("RUN --format hf stray", "unknown argument 'stray'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, small, tmp_path, capsys):
    words = words.replace("RUN", str(small[0])).replace("OUT", str(tmp_path / "out"))
    assert cli.main(["export", *words.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert message.replace("RUN", str(small[0])) in error
    assert not list(tmp_path.iterdir())


def test_onnx_without_its_packages(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(IclmsrError, match=r"needs onnxscript .*pip install 'iclmsr\[onnx\]'$"):
        export(small[0], "onnx", tmp_path / "out")
