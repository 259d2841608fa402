# SPDX-License-Identifier: Apache-2.0
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from iclmsr.errors import IclmsrError
from iclmsr.masks.model import MEAN, STD, onnx_model

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1)}
IMAGE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def save(path, nodes, *, inputs=(("x", FLOAT, (1, 3, "h", "w")),), outputs=("y",), constants=()):
    """A model of some nodes; shapes of outputs are left open."""
    graph = helper.make_graph(
        [helper.make_node(kind, ins, outs, **options) for kind, ins, outs, options in nodes],
        "test",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [
            helper.make_tensor_value_info(*(o, FLOAT, None) if isinstance(o, str) else o)
            for o in outputs
        ],
        [helper.make_tensor(*one) for one in constants],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def mean_of_channels(path, **options):
    """The model whose probability is the mean of its three channels."""
    nodes = [("ReduceMean", ["x"], ["y"], {"axes": [1], "keepdims": 1})]
    return save(path, nodes, **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def test_probabilities_of_an_image_of_its_own_size(path):
    make = onnx_model(mean_of_channels(path), **PLAIN)
    assert np.allclose(make(IMAGE), IMAGE.mean(2) / 255, atol=1e-6)
    nodes = [("ReduceMean", ["x"], ["y"], {"axes": [1], "keepdims": 0})]
    assert np.array_equal(onnx_model(save(path, nodes), **PLAIN)(IMAGE), make(IMAGE))


def test_channels_are_red_green_blue_and_normalized(path):
    """Scores of three classes are the channels as the model sees them."""
    make = onnx_model(save(path, [("Identity", ["x"], ["y"], {})]))
    seen = (IMAGE / 255 - MEAN) / STD
    assert np.array_equal(make(IMAGE), seen.argmax(2) != 0)
    assert 0 < make(IMAGE).mean() < 1


@pytest.mark.parametrize("own", [False, True])
def test_images_are_shown_in_the_models_size(path, own):
    inputs = (("x", FLOAT, (1, 3, 4, 4) if own else ("n", 3, "h", "w")),)
    nodes = [
        ("Shape", ["x"], ["shape"], {}),
        ("Slice", ["shape", "2", "4"], ["sides"], {}),
        ("Equal", ["sides", "44"], ["is"], {}),
        ("Cast", ["is"], ["float"], {"to": FLOAT}),
        ("ReduceMin", ["float"], ["one"], {"keepdims": 0}),
        ("ReduceMean", ["x"], ["mean"], {"axes": [1]}),
        ("Mul", ["mean", "one"], ["y"], {}),
    ]
    constants = [("2", INT, [1], [2]), ("4", INT, [1], [4]), ("44", INT, [2], [4, 4])]
    save(path, nodes, inputs=inputs, constants=constants)
    make = onnx_model(path, size=None if own else 4, **PLAIN)
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 255
    found = make(image)
    assert found.shape == (8, 8)
    assert np.array_equal(found >= 0.5, image[..., 0] > 0)
    if not own:
        assert not onnx_model(path, **PLAIN)(image).any()  # shown as it is


def test_a_coarse_mask_is_enlarged(path):
    nodes = [
        ("AveragePool", ["x"], ["small"], {"kernel_shape": [8, 8], "strides": [8, 8]}),
        ("ReduceMean", ["small"], ["y"], {"axes": [1]}),
    ]
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, 24:] = 255
    found = onnx_model(save(path, nodes), **PLAIN)(image)
    assert found.dtype == np.float32
    assert np.array_equal(found >= 0.5, image[..., 0] > 0)


@pytest.mark.parametrize("keep", [0, 1])
def test_classes_as_numbers(path, keep):
    nodes = [("ArgMax", ["x"], ["y"], {"axis": 1, "keepdims": keep})]
    found = onnx_model(save(path, nodes, outputs=[("y", INT, None)]), **PLAIN)(IMAGE)
    assert np.array_equal(found, IMAGE.argmax(2) != 0)


def test_the_output_is_the_first_or_the_one_that_is_named(path):
    nodes = [
        ("ReduceMean", ["x"], ["y"], {"axes": [1]}),
        ("ReduceMax", ["x"], ["best"], {"axes": [1]}),
    ]
    save(path, nodes, outputs=["y", "best"])
    assert np.allclose(onnx_model(path, **PLAIN)(IMAGE), IMAGE.mean(2) / 255, atol=1e-6)
    assert np.allclose(onnx_model(path, output="best", **PLAIN)(IMAGE), IMAGE.max(2) / 255)
    with pytest.raises(IclmsrError, match=r"has no output 'bast': did you mean 'best'"):
        onnx_model(path, output="bast")


@pytest.mark.parametrize(
    ("shape", "kind", "told"),
    [
        ((1, "h", "w", 3), FLOAT, r"\(1, h, w, 3\) \(float\)"),
        (("n", "h", "w", 3), FLOAT, r"\(n, h, w, 3\) \(float\)"),
        ((1, 4, "h", "w"), FLOAT, r"\(1, 4, h, w\) \(float\)"),
        ((8, 3, "h", "w"), FLOAT, r"\(8, 3, h, w\) \(float\)"),
        ((3, "h", "w"), FLOAT, r"\(3, h, w\) \(float\)"),
        ((1, 3, "h", "w"), TensorProto.UINT8, r"\(1, 3, h, w\) \(uint8\)"),
    ],
)
def test_inputs_that_are_no_image(path, shape, kind, told):
    save(
        path,
        [("Identity", ["x"], ["y"], {})],
        inputs=[("x", kind, shape)],
        outputs=[("y", kind, None)],
    )
    with pytest.raises(
        IclmsrError, match=rf"input 'x' must be \(1, 3, h, w\) float32, but it is {told}$"
    ):
        onnx_model(path)


def test_a_second_input(path):
    inputs = [("x", FLOAT, (1, 3, "h", "w")), ("prompt", FLOAT, (1,))]
    save(path, [("Mul", ["x", "prompt"], ["y"], {})], inputs=inputs)
    with pytest.raises(IclmsrError, match="an image and nothing else, but has inputs: x, prompt$"):
        onnx_model(path)


def test_a_size_that_the_model_does_not_take(path):
    mean_of_channels(path, inputs=[("x", FLOAT, (1, 3, 4, "w"))])
    with pytest.raises(
        IclmsrError, match="images of any x 4 pixels only: leave out --model-size 5"
    ):
        onnx_model(path, size=5)
    assert onnx_model(path, size=4, **PLAIN)(IMAGE).shape == IMAGE.shape[:2]


def test_outputs_that_are_no_mask(path):
    make = onnx_model(mean_of_channels(path), mean=(0, 0, 0), std=(0.1, 0.1, 0.1))
    with pytest.raises(
        IclmsrError, match=r"probabilities in \[0, 1\], got .* end the model with a"
    ):
        make(IMAGE)
    make = onnx_model(save(path, [("ReduceMean", ["x"], ["y"], {"axes": [2, 3], "keepdims": 0})]))
    with pytest.raises(IclmsrError, match=r"output 'y' must be .*\(1, C, h, w\), got \(1, 3\)$"):
        make(IMAGE)
    transposed = [("Transpose", ["x"], ["y"], {"perm": [0, 2, 3, 1]})]
    make = onnx_model(save(path, transposed))
    with pytest.raises(RuntimeError, match=r"\(1, 6, 9, 3\) has not the proportions of the image"):
        make(IMAGE)


def test_a_model_that_does_not_run_on_an_image(path):
    nodes = [("Reshape", ["x", "to"], ["z"], {}), ("ReduceMean", ["z"], ["y"], {"axes": [1]})]
    save(path, nodes, constants=[("to", INT, [4], [1, 3, 4, 4])])
    make = onnx_model(path, **PLAIN)
    assert make(np.zeros((4, 4, 3), np.uint8)).shape == (4, 4)
    with pytest.raises(RuntimeError, match="does not run: "):
        make(IMAGE)


def test_files_that_are_no_model(path, capfd):
    with pytest.raises(IclmsrError, match=rf"^--model {path} does not exist$"):
        onnx_model(path)
    path.write_text("no model\n")
    with pytest.raises(IclmsrError, match=rf"^--model {path} is no ONNX model: .*$"):
        onnx_model(path)
    mean_of_channels(path).write_bytes(path.read_bytes()[:-20])
    with pytest.raises(IclmsrError, match=rf"^--model {path} is no ONNX model: .*$"):
        onnx_model(path)
    assert capfd.readouterr().err == ""


def test_without_onnx_runtime(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    message = r"^mask maker onnx needs ONNX Runtime \(.*\): pip install 'iclmsr\[onnx\]'$"
    with pytest.raises(IclmsrError, match=message):
        onnx_model(path)
