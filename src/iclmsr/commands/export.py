# SPDX-License-Identifier: Apache-2.0
"""``iclmsr export``: an encoder for the tools of others."""

from pathlib import Path

from iclmsr.data.names import printable
from iclmsr.errors import IclmsrError
from iclmsr.options import Parser, asks_help, only, usage


def export_command(words: list[str]) -> None:
    """Hand an encoder on: safetensors, timm, torchvision, ONNX, Hugging Face.

    usage: iclmsr export RUN --format safetensors|timm|torchvision|onnx|hf [-o OUT]

    Makes the folder OUT, RUN/export-FORMAT unless given, with the weights,
    preprocessor_config.json (mean, std, sizes) and a model card, README.md. Before it appears, it
    is loaded through the other library's own loader and must give the same features.

      safetensors  for iclmsr.load and load_encoder, and whoever reads safetensors
      timm         timm.create_model('local-dir:OUT', pretrained=True)
      torchvision  resnet18().load_state_dict(..., strict=True); also resnet34, resnet50
      onnx         encoder.onnx, any batch; needs pip install 'iclmsr[onnx]'
      hf           iclmsr.export.hub.HubEncoder.from_pretrained; pip install 'iclmsr[hf-hub]'

    ResNets with small stems or another width than 64 are in neither timm nor torchvision. RUN may
    also be another encoder in torch's weights, as --init of `iclmsr pretrain` takes it; it then
    needs -o.
    """
    if asks_help(words):
        print(usage(export_command))
        return
    source = words.pop(0) if words and not words[0].startswith("-") else None
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--format")
    parser.add_argument("-o", "--out", type=Path)
    known, rest = parser.parse_known_args(words)
    only(rest, 0)
    if source is None or known.format is None:
        raise IclmsrError("export needs an encoder and a format: iclmsr export RUN --format onnx")
    if known.out is None and not Path(source).is_dir():
        raise IclmsrError("export of a file needs a folder to make: pass -o OUT")

    from iclmsr.export import export

    done = export(source, known.format, known.out or Path(source) / f"export-{known.format}")
    for line in done.remarks:
        print(line)
    folder = printable(done.folder)
    print(f"wrote {folder}: features differ by {done.difference:.1e} after loading it again")
    print(f"how to use it: {printable(done.folder / 'README.md')}")
