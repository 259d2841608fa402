# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of other self-supervised libraries: which of their keys are the encoder."""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from torch import Tensor

from iclmsr.errors import IclmsrError
from iclmsr.networks import EncoderConfig
from iclmsr.networks.encoder import RESNETS

WRAPPERS = ("module.", "_orig_mod.", "model.", "_forward_module.")
"""What DistributedDataParallel, torch.compile and Lightning put before every key."""
BRANCHES = (
    "encoder_q.", "base_encoder.", "student_backbone.", "online_backbone.", "online_network.",
    "online_encoder.", "backbone.", "encoder.", "network.", "net.", "trunk.",
)  # fmt: skip
"""Before the keys of the encoder, online branches first."""
HEADS = re.compile(
    r"(fc|head|heads|head_dist|linear|classifier|mlp|last_layer|last_linear|\w*(projector|projection|proj"
    r"|predictor|prediction|_head|prototypes|classifier|queue|queue_ptr|criterion|loss|center))"
    r"|queue\w*"
)
"""First parts of the keys that belong to a head, a loss or a queue."""
OTHERS = re.compile(r"\w*(momentum|target|teacher)\w*|encoder_k|\w*_(ema|k)")
"""First parts of the keys of a branch that is not trained."""
_BLOCK = re.compile(r"\d+\.0\.conv1\.weight")


class Branch(NamedTuple):
    """The encoder in a checkpoint.

    Attributes:
        tensors: By the encoder's own keys.
        prefix: What stood before them.
        dropped: First parts of the keys that were left out, with what stands before them.
    """

    tensors: dict[str, Tensor]
    prefix: str
    dropped: tuple[str, ...]


def find_branch(tensors: Mapping[str, Tensor], own: Collection[str] = ()) -> Branch:
    """The encoder's weights among those of a whole method, without heads and other branches.

    What is left out is left out for its name, and listed; whatever else there is stays in, so
    that it does not fit the encoder and is complained of.

    Args:
        tensors: All of a checkpoint.
        own: Keys that the encoder has, and that are therefore no head's; empty if unknown.

    >>> from torch import zeros
    >>> keys = ("encoder_q.conv1.weight", "encoder_q.fc.0.weight", "encoder_k.conv1.weight")
    >>> branch = find_branch({f"module.{key}": zeros(1) for key in keys})
    >>> list(branch.tensors), branch.prefix
    (['conv1.weight'], 'module.encoder_q.')
    >>> branch.dropped
    ('module.encoder_k', 'module.encoder_q.fc')
    """
    if not tensors.keys().isdisjoint(own):
        kept, dropped = _sorted_out(tensors, "", own)
        return Branch(kept, "", tuple(sorted(dropped)))
    prefix, left, unknown = "", set[str](), dict[str, Tensor]()
    inside = dict(tensors)
    while (step := _step(inside)) is not None:
        outside = {key: value for key, value in inside.items() if not key.startswith(step)}
        kept, dropped = _sorted_out(outside, prefix, own)
        unknown |= {prefix + key: value for key, value in kept.items()}
        left |= dropped
        inside = {k.removeprefix(step): v for k, v in inside.items() if k.startswith(step)}
        prefix += step
    kept, dropped = _sorted_out(inside, prefix, own)
    return Branch({**kept, **unknown}, prefix, tuple(sorted(left | dropped)))


def _step(tensors: Mapping[str, Tensor]) -> str | None:
    """The prefix that leads further to the encoder; None where its own keys begin."""
    for wrapper in WRAPPERS:
        if tensors and all(key.startswith(wrapper) for key in tensors):
            return wrapper
    return next((b for b in BRANCHES if any(key.startswith(b) for key in tensors)), None)


def _sorted_out(
    tensors: Mapping[str, Tensor], prefix: str, own: Collection[str]
) -> tuple[dict[str, Tensor], set[str]]:
    """The tensors that are no head's and no other branch's, and the names of those that are."""
    kept, dropped = {}, set()
    for key, value in tensors.items():
        first = key.partition(".")[0]
        if key not in own and (HEADS.fullmatch(first) or OTHERS.fullmatch(first)):
            dropped.add(prefix + first)
        else:
            kept[key] = value
    return kept, dropped


def as_resnet(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """A ResNet's weights under torchvision's keys, where they are numbered or lightly's.

    Numbered they are in nn.Sequential(*list(resnet.children())[:-1]), as in lightly's examples.

    Args:
        tensors: By other keys, or by the very same.
        where: The file, for messages.

    Raises:
        IclmsrError: Lightly's own ResNet, numbered: its first ReLU is no child and gets lost, so
            it is a network of another kind.

    >>> from torch import zeros
    >>> sorted(as_resnet({"0.weight": zeros(1), "4.0.conv1.weight": zeros(1)}, "a.ckpt"))
    ['conv1.weight', 'layer1.0.conv1.weight']
    """
    blocks = sorted(int(key.split(".")[0]) for key in tensors if _BLOCK.fullmatch(key))
    if blocks and "0.weight" in tensors:
        if blocks[0] == 2:
            raise IclmsrError(
                f"{where} is of lightly's ResNetGenerator in nn.Sequential, where the first ReLU "
                "is lost: no ResNet here is like that; export it to ONNX and pass FILE.onnx"
            )
        names = {"0": "conv1", "1": "bn1"}
        names |= {str(block): f"layer{stage}" for stage, block in enumerate(blocks, 1)}
        split = {key: key.partition(".") for key in tensors}
        tensors = {
            f"{names.get(first, first)}.{rest}": tensors[key]
            for key, (first, _, rest) in split.items()
        }
    return {key.replace(".shortcut.", ".downsample."): value for key, value in tensors.items()}


def resnet_of(tensors: Mapping[str, Tensor], where: str) -> EncoderConfig:
    """Which ResNet has these weights; one with a 3 x 3 stem is taken to have no max-pool.

    Args:
        tensors: By torchvision's keys.
        where: The file, for messages.

    Raises:
        IclmsrError: None that there is.
    """
    counts = tuple(
        len({key.split(".")[1] for key in tensors if key.startswith(f"layer{stage}.")})
        for stage in range(1, 5)
    )
    kind = (counts, "layer1.0.conv3.weight" in tensors)
    known = {(depths, block.expansion > 1): name for name, (block, depths) in RESNETS.items()}
    if kind not in known:
        raise IclmsrError(
            f"{where} does not say which encoder it is of, and its keys are not those of "
            f"{', '.join(RESNETS)} ({', '.join(list(tensors)[:3])}, ...): name it as "
            "timm:MODEL@FILE or torchvision:MODEL@FILE"
        )
    first = tensors.get("conv1.weight")
    if first is None or first.ndim != 4:
        raise IclmsrError(
            f"the weights in {where} do not fit {known[kind]}: 1 missing: conv1.weight"
        )
    stem = "imagenet" if first.shape[-1] == 7 else "cifar"
    return EncoderConfig(known[kind], stem=stem, width=len(first))  # type: ignore[arg-type]
