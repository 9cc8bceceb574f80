"""Measures making the thumbnail and preview of JPEGs, compared with two pyvips pipelines, with Pillow and with sharp.

sharp also decodes a picture once, and works on two files at a time, as our image processes do. This comparison uses
pictures of 24, 12 and 2 megapixels, and measures wall time and processor time. Only photojobs waits until the files are
on disk.

The pyvips pipelines and Pillow make the same sizes and qualities with WebP's default effort. The likeness compares the
result of each with the pixels that pyvips encodes. The bytes are those of both files together. The pictures range from
little detail to much.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageOps

from benchmarks.databases import temporary_folder
from benchmarks.measure import Options, Ratio, Report, command, in_turns
from benchmarks.photographs import likeness, write_photograph
from benchmarks.sharp_peer import Sharp, why_missing
from flows.imaging.isolation.image_processing import ImagePool
from flows.imaging.limits import PREVIEW, THUMBNAIL
from flows.imaging.pixels.vips import load_vips
from flows.imaging.thumbnail_and_preview import make_derivatives

_DETAILS = (0.3, 0.6, 0.8, 1.0)
_RENDITIONS = {"thumb": THUMBNAIL, "preview": PREVIEW}
#: For each size in megapixels: the width, the height, how often each picture is made, and the target ratio to sharp.
_SHARP_SIZES = {24: (6000, 4000, 1, 0.85), 12: (4240, 2832, 2, 0.85), 2: (1800, 1200, 8, 0.9)}


def run(options: Options) -> Report:
    """Measure making both files of each picture by each tool, in turns."""
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
        missing = why_missing()
        if missing is None:
            _compare_with_sharp(report, folder, options)
        else:
            report.notes.append(f"not compared with sharp: {missing}")
    return report


def _compare_with_sharp(report: Report, folder: Path, options: Options) -> None:
    sharp = Sharp()
    report.notes.append(f"sharp {sharp.versions['sharp']}, libvips {sharp.versions['vips']}")
    with ImagePool(processes=2) as pool, ThreadPoolExecutor(2) as threads:
        for megapixels, (width, height, repeats, target) in _SHARP_SIZES.items():
            pictures = [folder / f"{megapixels}-{number}.jpg" for number in range(options.size(len(_DETAILS), 1))]
            for number, picture in enumerate(pictures):
                shape = (60, 40) if options.small else (width, height)
                write_photograph(picture, *shape, seed=number + 1, detail=_DETAILS[number])
            jobs = [(picture, _targets(folder / "ours", picture)) for picture in pictures] * options.size(repeats, 1)

            def ours(jobs: list[tuple[Path, dict[str, Path]]] = jobs) -> tuple[float, float]:
                began, processor = time.perf_counter(), _processor_seconds(pool.process_ids)
                make = pool.make_derivatives
                list(threads.map(lambda job: make(job[0], thumbnail=job[1]["thumb"], preview=job[1]["preview"]), jobs))
                return time.perf_counter() - began, _processor_seconds(pool.process_ids) - processor

            def theirs(jobs: list[tuple[Path, dict[str, Path]]] = jobs) -> tuple[float, float]:
                return sharp.make(
                    (source, {targets[kind]: rendition for kind, rendition in _RENDITIONS.items()})
                    for source, targets in ((source, _targets(folder / "sharp", source)) for source, _ in jobs)
                )

            (folder / "sharp").mkdir(exist_ok=True)
            rounds = [
                (ours(), theirs()) if turn % 2 else (theirs(), ours())[::-1] for turn in range(options.rounds(5) + 1)
            ]
            for at, unit in enumerate(("s", "s of processor")):
                report.ratios.append(
                    Ratio(
                        what=f"{megapixels} megapixels",
                        unit=unit,
                        ours=[own[at] for own, _ in rounds[1:]],
                        others=[other[at] for _, other in rounds[1:]],
                        against="sharp",
                        target=target if at == 0 else None,
                        at_least=False,
                    )
                )
    sharp.close()


def _processor_seconds(process_ids: list[int]) -> float:
    """Return the processor time of these image processes and of this process. Ended processes are not counted."""
    taken = time.process_time()
    for process_id in process_ids:
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
        taken += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return taken


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
            # `draft` makes Pillow decode a JPEG at a fraction of its size.
            image.draft("RGB", (edge, edge))
            upright = ImageOps.exif_transpose(image)
            upright.thumbnail((edge, edge), Image.Resampling.LANCZOS)
            upright.save(targets[kind], "WEBP", quality=rendition.quality)


if __name__ == "__main__":
    command(run)
