# SPDX-License-Identifier: Apache-2.0
"""``iclmsr embed`` and ``iclmsr search``: vectors of images, and which are near."""

from pathlib import Path

from iclmsr.data.names import printable
from iclmsr.errors import IclmsrError
from iclmsr.options import Parser, asks_help, only, parse_options, usage


def embed_command(words: list[str]) -> None:
    """Write a vector for every image of a folder.

    usage: iclmsr embed RUN_OR_ENCODER IMAGES -o features.parquet [options below]
           iclmsr embed RUN_OR_ENCODER IMAGES -o features.npy [options below]

    IMAGES is a folder, or a .tar or .zip of one, with images at any depth; its folder masks is
    passed over. The file has the columns path and vector (float32), and says in its metadata
    which encoder made it; .npy has the paths beside it, in a .json. Memory is bounded. Stopped or
    killed, the same command goes on where it was and ends with the same file. RUN_OR_ENCODER is a
    run folder, an exported folder, encoder.safetensors, FILE.onnx, timm:MODEL@FILE,
    torchvision:resnet18@FILE, or the checkpoint of a ResNet of lightly, solo-learn or MoCo.
    """
    if asks_help(words):
        print(usage(embed_command))
    from iclmsr.embed.files import EmbedConfig, embed_files

    if asks_help(words):
        parse_options(EmbedConfig, EmbedConfig(), words)
    if any(word.startswith("-") for word in words[:2]) or len(words) < 2:
        raise IclmsrError(
            "embed begins with an encoder and images: iclmsr embed RUN IMAGES -o features.parquet"
        )
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("-o", "--out", type=Path)
    known, rest = parser.parse_known_args(words[2:])
    if known.out is None:
        raise IclmsrError("embed needs a file to write: pass -o features.parquet")
    config = parse_options(EmbedConfig, EmbedConfig(), rest)
    print(embed_files(words[0], Path(words[1]), known.out, config).describe())
    print(f"wrote {printable(known.out)}")


def search_command(words: list[str]) -> None:
    """Show the images that are nearest to one.

    usage: iclmsr search features.parquet IMAGE [-k 5] [--encoder RUN_OR_ENCODER]

    features.parquet is what `iclmsr embed` wrote. Nearest by the cosine of the vectors; a line an
    image, cosine and path. The encoder is the one that made the file; --encoder says where it lies
    now if it has been moved.
    """
    if asks_help(words):
        print(usage(search_command))
        return
    if any(word.startswith("-") for word in words[:2]) or len(words) < 2:
        raise IclmsrError(
            "search begins with vectors and an image: iclmsr search features.parquet IMAGE"
        )
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("-k", type=int, default=5)
    parser.add_argument("--encoder")
    known, rest = parser.parse_known_args(words[2:])
    only(rest, 0)

    from iclmsr.embed.search import search

    for path, cosine in search(Path(words[0]), words[1], encoder=known.encoder, k=known.k):
        print(f"{cosine:7.4f}  {path}")
