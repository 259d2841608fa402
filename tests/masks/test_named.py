# SPDX-License-Identifier: Apache-2.0
import sys

import numpy as np
import pytest

from iclmsr.errors import IclmsrError
from iclmsr.masks.makers import grabcut, saliency
from iclmsr.masks.named import MaskConfig, mask_maker


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A user's module in the current folder; returns its name."""
    (tmp_path / "my_masks_of_a_test.py").write_text(
        "import numpy as np\n"
        "LEVEL = 100\n"
        "def bright(image): return image.mean(2) > LEVEL\n"
        "class Model:\n"
        "    @staticmethod\n"
        "    def predict(image): return image[:, :, 0] / 255\n"
        "model = Model()\n"
    )
    (tmp_path / "broken_of_a_test.py").write_text("1 / 0\n")
    (tmp_path / "script_of_a_test.py").write_text("import sys; sys.exit('usage: x')\n")
    (tmp_path / "multiline_of_a_test.py").write_text("raise RuntimeError('two\\nlines')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "my_masks_of_a_test"
    sys.modules.pop("my_masks_of_a_test", None)


def test_ours():
    assert mask_maker(MaskConfig()) is grabcut
    assert mask_maker(MaskConfig("saliency")) is saliency


def test_a_function_of_the_users(module):
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = 255
    assert mask_maker(MaskConfig(f"{module}:bright"))(image).tolist() == [[True] * 2, [False] * 2]
    found = mask_maker(MaskConfig(f"{module}:model.predict"))(image)
    assert found.tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("grabkut", "unknown --method 'grabkut': did you mean 'grabcut'?"),
        ("xyz", "unknown --method 'xyz': choose from grabcut, onnx, package.module:function, "),
        ("nowhere.at_all:f", "--method 'nowhere.at_all:f': cannot import 'nowhere.at_all' "),
        ("broken_of_a_test:f", r"cannot import 'broken_of_a_test' (ZeroDivisionError: division"),
        ("script_of_a_test:f", "cannot import 'script_of_a_test' (SystemExit: usage: x)"),
        (":f", "--method ':f': cannot import '' (ValueError: "),
        ("multiline_of_a_test:f", "(RuntimeError: two lines)"),
        ("MODULE:brigth", "--method 'MODULE:brigth': no 'brigth' in it; did you mean 'bright'?"),
        ("MODULE:model.predic", "no 'predic' in it; did you mean 'predict'?"),
        ("MODULE:bright.x", "'MODULE:bright.x': no 'x' in it; nothing in it can be called"),
        ("MODULE:", "--method 'MODULE:': no '' in it; choose from "),
        ("MODULE:LEVEL", "--method 'MODULE:LEVEL' is of type int, no function"),
    ],
)
def test_names_that_lead_nowhere(module, method, message):
    with pytest.raises(IclmsrError) as caught:
        mask_maker(MaskConfig(method.replace("MODULE", module)))
    assert message.replace("MODULE", module) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "saliency", "boxes": "x.csv"}, "--boxes is for --method grabcut"),
        ({"method": "onnx"}, "--method onnx needs a model: pass --model FILE.onnx"),
        ({"model": "x.onnx"}, "--model is for --method onnx, not 'grabcut': leave it out"),
        ({"model_size": 0}, "--model-size must be > 0 pixels, got 0"),
        ({"model_mean": (0, float("nan"), 0)}, "--model-mean must be finite, got"),
        ({"model_std": (1, 0, 1)}, "--model-std must be > 0, got"),
        ({"model_std": (1, 1, float("inf"))}, "--model-std must be > 0, got"),
        ({"workers": 0}, "--workers must be >= 1, got 0"),
    ],
)
def test_values_out_of_range(options, message):
    with pytest.raises(IclmsrError, match=f"^{message}"):
        MaskConfig(**options)
