# SPDX-License-Identifier: Apache-2.0
"""The model card: what an encoder was made from, how good it is, and what it is not for."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from iclmsr.config import PretrainConfig, decode
from iclmsr.errors import IclmsrError
from iclmsr.export.parcel import Parcel
from iclmsr.files import read_json
from iclmsr.runs import RunFolder, is_run

if TYPE_CHECKING:
    from iclmsr.export.formats import Format


def card(
    parcel: Parcel, format: str, form: "Format", difference: float, run: Path | None, name: str
) -> str:
    """The README.md of an export; it holds nothing that is not in the run folder.

    Args:
        parcel: The encoder.
        format: Its name.
        form: The format.
        difference: As measured, see :meth:`Parcel.difference`.
        run: The run folder that it came from; None or another folder if it came from elsewhere.
        name: Of the folder that the card is in.
    """
    ours = run is not None and is_run(run)
    loader = form.loader.replace("FOLDER", name).replace("NAME", parcel.config.name)
    sections = [
        _head(form, format, ours),
        f"# {parcel.loaded.name}\n\nAn image encoder, {parcel.stem()}: "
        f"(B, 3, H, W) -> (B, {parcel.encoder.feature_dim}).",
        f"## Use\n```python\n{loader}\n```\nSeen from the folder above this one. Loaded like "
        f"that, its features differ by {difference:.1e} at most from those of the encoder that "
        "was exported (relative to the largest, on 3 images of noise).",
        _images(parcel),
        *(_training(parcel, run) if ours and run is not None else [_elsewhere(parcel)]),
        _limits(parcel, format),
        _licence(ours),
    ]
    return "\n\n".join(sections) + "\n"


def _head(form: "Format", format: str, ours: bool) -> str:
    """The card's metadata, as the hub reads them."""
    lines = [f"license: {'apache-2.0' if ours else 'other'}", f"library_name: {form.library}"]
    lines += ["pipeline_tag: image-feature-extraction", "tags:"]
    lines += ["- self-supervised-learning", "- iclmsr"]
    lines += ["- model_hub_mixin", "- pytorch_model_hub_mixin"] if format == "hf" else []
    return "\n".join(["---", *lines, "---"])


def _images(parcel: Parcel) -> str:
    """How images are prepared."""
    images = parcel.preprocessing
    steps = []
    if images.image_size is not None:
        steps.append(f"resize the short side to {images.image_size} pixels (bicubic), cut the rest")
        steps += [f"resize to {images.resize}"] if images.resize else []
        steps += [f"cut out the centre, {images.crop} x {images.crop}"] if images.crop else []
    else:
        steps.append("the size of the images that it was trained on is not known")
    mean, std = (", ".join(map(str, value)) for value in (images.mean, images.std))
    steps += ["RGB, pixels divided by 255", f"less mean ({mean})", f"over std ({std})"]
    return "## Images\n" + "\n".join(f"{n}. {step}" for n, step in enumerate(steps, 1))


def _training(parcel: Parcel, run: Path) -> list[str]:
    """Data, recipe and results, as far as the run folder knows."""
    config = decode(PretrainConfig, RunFolder.open(run).config())
    environment = read_json(run / "environment.json")
    done = parcel.loaded.metadata.get("epoch", 0)
    limit = "" if config.data.limit is None else f", {config.data.limit:,} drawn at random"
    versions = environment.get("versions", {})
    rows = {
        "recipe": config.recipe or "none",
        "method": config.method.name + (" with MSR" if config.msr.enabled else ""),
        "data": f"{config.data.source}, {config.data.image_size} x {config.data.image_size}{limit}",
        "images": f"{environment.get('images', 'unknown')}",
        "epochs": f"{done} of {config.epochs}",
        "batch size": f"{config.batch_size}",
        "seed": f"{config.seed}",
        "precision": config.precision,
        "started from": environment.get("init", {}).get("name", "random weights"),
        "software": ", ".join(f"{k} {v}" for k, v in versions.items() if k in ("iclmsr", "torch")),
    }
    table = "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())])
    return [f"## Training\n{table}", _results(run, done)]


def _results(run: Path, epoch: int) -> str:
    """The accuracies in evaluation.json, if it is there."""
    try:
        report = RunFolder(run).evaluation() or {}
        results: dict[str, Any] = report["results"]
        lines = [
            f"| {name} | {kind} | {values['top1']:.2f} |"
            for name, result in results.items()
            for kind, values in result.items()
            if isinstance(values, dict) and isinstance(values.get("top1"), float)
        ]
    except (IclmsrError, KeyError, TypeError, AttributeError):
        lines = []
    if not lines:
        return "## Results\nIt was not evaluated."
    late = report.get("epoch", epoch)
    when = f", at epoch {late}, not {epoch}" if late != epoch else ""
    head = f"## Results\nTop-1, percent; protocol {report.get('protocol', 'unknown')}{when}."
    return "\n".join([head, "", "| | | |", "|---|---|---|", *lines])


def _elsewhere(parcel: Parcel) -> str:
    """What is known of an encoder that no run folder came with."""
    notes = "".join(f"\n* {line}" for line in parcel.loaded.remarks())
    return (
        "## Training\nIt was read from a file without its run folder: nothing is known here of its "
        f"data, recipe and results. SHA-256 of the file: {parcel.loaded.sha256}.{notes}"
    )


def _limits(parcel: Parcel, format: str) -> str:
    """What nobody should expect of it."""
    lines = [
        "It was trained without labels: its features are no classes, and need a classifier.",
        "Whatever was measured, was measured on the data named here, and not on other images.",
        "It learnt whatever its images have in common, biases and backgrounds included.",
    ]
    if parcel.preprocessing.seen is not None:
        lines.append(f"Images of another size than {parcel.size} pixels were not tried.")
    if format == "torchvision":
        lines.append(f"Its classifier `fc` is zeros: {parcel.config.name} wants one. Replace it.")
    if format == "onnx":
        lines.append(f"Height and width are fixed, {parcel.size} pixels; the batch is free.")
    return "## Limits\n" + "\n".join(f"* {line}" for line in lines)


def _licence(ours: bool) -> str:
    """Under which terms it is handed on."""
    if not ours:
        return "## Licence\nThat of the file that it was read from."
    return "## Licence\nApache-2.0. The terms of the images that it was trained on are theirs."
