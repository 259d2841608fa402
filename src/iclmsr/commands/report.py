# SPDX-License-Identifier: Apache-2.0
"""``iclmsr report``: one page about runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iclmsr.data.names import printable
from iclmsr.errors import IclmsrError
from iclmsr.options import Parser, asks_help, usage


def report_command(words: list[str]) -> None:
    """Write one HTML page about a run, or comparing several.

    usage: iclmsr report RUN... [-o FILE.html] [--points N] [--umap] [--data.root PATH]
                         [--no-gallery] [--renew]

    RUN is a run folder, the folder of a study, or a folder of runs.
    The page needs nothing beside it: no network, no other file. Runs that differ in their seed
    only are shown as one, with their spread.

      -o FILE.html      report.html unless given
      --points N        images on the embedding map, 2000 unless given
      --umap            project by UMAP, too: pip install 'iclmsr[umap]'
      --data.root PATH  where the data lie now, if they have moved
      --no-gallery      leave out what needs the data; what was made before is shown
      --renew           make galleries anew, as with other --points

    Embedding map, neighbours and samples are made once for each encoder, of the first seed, and
    kept in RUN/gallery. A run whose data are not at hand is reported without.
    """
    if asks_help(words):
        print(usage(report_command))
        return
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("report.html"))
    parser.add_argument("--points", type=int)
    parser.add_argument("--umap", action="store_true")
    parser.add_argument("--data.root", dest="root")
    parser.add_argument("--no-gallery", action="store_true")
    parser.add_argument("--renew", action="store_true")
    known = parser.parse_args(words)
    if not known.runs:
        raise IclmsrError("report needs a run folder: iclmsr report RUN... -o report.html")
    if known.out.is_dir():
        raise IclmsrError(f"{known.out} is a folder: pass -o FILE.html")
    if known.points is not None and known.points < 2:
        raise IclmsrError(f"--points must be >= 2, got {known.points}")

    from iclmsr.report import write_report
    from iclmsr.report.groups import group
    from iclmsr.report.reading import collect

    found = collect(known.runs)
    for path, why in found.unreadable.items():
        print(f"left out: {printable(path)} cannot be read: {why}")
    firsts = [each.runs[0].path for each in group(found.runs)]
    missed = {} if known.no_gallery else _galleries(firsts, known)
    write_report(known.runs, known.out, recipes=_recipes(), missed=missed)
    print(f"wrote {printable(known.out)}, {known.out.stat().st_size / 1e6:.1f} MB")


def _galleries(runs: Sequence[Path], known: Any) -> dict[Path, str]:
    """Makes galleries where there are none; why there is none, by the run that has none."""
    missed = {}
    try:
        from iclmsr.gallery import is_current, make_gallery
    except ImportError as error:
        return dict.fromkeys(runs, f"{error.name} is not installed")
    options = {"umap": known.umap, "root": known.root}
    if known.points is not None:
        options["points"] = known.points
    anew = known.renew or known.umap or known.points is not None
    for run in runs:
        if not (run / "encoder.safetensors").is_file():
            missed[run] = "the run has written no encoder yet"
            continue
        if is_current(run) and not anew:
            continue
        print(f"embedding images of {printable(run)}")
        try:
            make_gallery(run, **options)
        except IclmsrError as error:
            missed[run] = str(error)
            print(f"  left out: {printable(str(error))}")
    return missed


def _recipes() -> dict[str, Any]:
    """Every recipe's settings; none where torch is not installed."""
    try:
        from iclmsr.config import encode
        from iclmsr.recipes import RECIPES
    except ImportError:
        return {}
    return {name: encode(known.config) for name, known in RECIPES.items()}
