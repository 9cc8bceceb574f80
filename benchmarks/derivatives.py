"""Thumbnail and preview of 24-megapixel JPEGs from one decode, against two pipelines of pyvips, and against Pillow.

The peers make the same sizes and qualities at WebP's default effort. Likeness is each one's to the pixels that pyvips
encodes; bytes are those of both files together. The pictures go from little detail to much.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageOps

from benchmarks.databases import temporary_folder
from benchmarks.measure import Options, Ratio, Report, command, in_turns
from benchmarks.photographs import likeness, write_photograph
from flows.imaging.derivatives import make_derivatives
from flows.imaging.limits import PREVIEW, THUMBNAIL
from flows.imaging.vips import load_vips

_DETAILS = (0.3, 0.6, 0.8, 1.0)
_RENDITIONS = {"thumb": THUMBNAIL, "preview": PREVIEW}


def run(options: Options) -> Report:
    """Make both files of each picture with each contestant in turn."""
    width, height = (600, 400) if options.small else (6000, 4000)
    count = options.size(len(_DETAILS), 1)
    report = Report("derivatives", notes=[f"{count} JPEGs of {width} x {height} pixels; seconds for all of them"])
    with temporary_folder() as folder:
        sources = [folder / f"{number}.jpg" for number in range(count)]
        for number, source in enumerate(sources):
            write_photograph(source, width, height, seed=number + 1, detail=_DETAILS[number])
        makers: dict[str, Callable[[Path, dict[str, Path]], None]] = {
            "ours": _ours,
            "two pyvips pipelines": _two_pipelines,
            "Pillow": _pillow,
        }
        for name in makers:
            (folder / name).mkdir()

        def measured(name: str) -> float:
            began = time.perf_counter()
            for source in sources:
                makers[name](source, _targets(folder / name, source))
            return time.perf_counter() - began

        times = in_turns({name: lambda name=name: measured(name) for name in makers}, rounds=options.size(3, 1))  # type: ignore[misc]
        for peer, target in (("two pyvips pipelines", 0.5), ("Pillow", None)):
            report.ratios.append(
                Ratio(
                    what="time",
                    unit="s",
                    ours=times["ours"],
                    others=times[peer],
                    against=peer,
                    target=target,
                    at_least=False,
                )
            )
        _compare_files(report, folder, sources)
    return report


def _compare_files(report: Report, folder: Path, sources: list[Path]) -> None:
    pyvips = load_vips()
    peer = "two pyvips pipelines"
    sizes: dict[str, list[float]] = {"ours": [], peer: []}
    alike: dict[str, dict[str, list[float]]] = {kind: {"ours": [], peer: []} for kind in _RENDITIONS}
    for source in sources:
        for name in sizes:
            targets = _targets(folder / name, source)
            sizes[name].append(sum(path.stat().st_size for path in targets.values()) / 1e6)
            for kind, path in targets.items():
                edge = _RENDITIONS[kind].long_edge_pixels
                reference = pyvips.Image.thumbnail(str(source), edge, height=edge, size="down")
                alike[kind][name].append(likeness(pyvips.Image.new_from_file(str(path)), reference))
    report.ratios.append(
        Ratio(
            what="bytes", unit="MB", ours=sizes["ours"], others=sizes[peer], against=peer, target=1.12, at_least=False
        )
    )
    for kind, values in alike.items():
        report.ratios.append(
            Ratio(
                what=f"likeness of the {kind}",
                unit="SSIM",
                ours=values["ours"],
                others=values[peer],
                against=peer,
                target=0.995,
            )
        )


def _targets(folder: Path, source: Path) -> dict[str, Path]:
    return {kind: folder / f"{source.stem}-{kind}.webp" for kind in _RENDITIONS}


def _ours(source: Path, targets: dict[str, Path]) -> None:
    make_derivatives(source, thumbnail=targets["thumb"], preview=targets["preview"])


def _two_pipelines(source: Path, targets: dict[str, Path]) -> None:
    pyvips = load_vips()
    for kind, rendition in _RENDITIONS.items():
        edge = rendition.long_edge_pixels
        image = pyvips.Image.thumbnail(str(source), edge, height=edge, size="down")
        image.webpsave(str(targets[kind]), Q=rendition.quality, keep="none")


def _pillow(source: Path, targets: dict[str, Path]) -> None:
    for kind, rendition in _RENDITIONS.items():
        edge = rendition.long_edge_pixels
        with Image.open(source) as image:
            # Decodes at a fraction of the size where the format can.
            image.draft("RGB", (edge, edge))
            upright = ImageOps.exif_transpose(image)
            upright.thumbnail((edge, edge), Image.Resampling.LANCZOS)
            upright.save(targets[kind], "WEBP", quality=rendition.quality)


if __name__ == "__main__":
    command(run)
