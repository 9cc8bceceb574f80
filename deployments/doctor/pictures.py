"""Checks which formats of photographs can be decoded here."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator

from deployments.doctor.finding import Area, Finding

_area = Area("pictures")

#: The formats that libvips must decode, with their file suffixes.
NEEDED = (("JPEG", ".jpg"), ("PNG", ".png"), ("TIFF", ".tif"), ("WebP", ".webp"))

# A HEIC file with valid boxes and an empty picture, compressed and encoded in Base85.
_HEIC_SAMPLE = (
    b"c-muNV30^FsVvAy%}izhg51nBLn!-7ZfZ#)0|Y2$q~sJq*$f4l$t4VEfUh94Bp1wL1Y)_&oP4lxE+9T5RP+lF^8m4OW@cU"
    b"*T&*aOlgb3;Wt1fwf|wDR1w{ow+B&l!IUh*N10|dp854la31FRa9~l1p{qci=fgi*Z$t*5Ng}TH6ibXREa$(K~x`C+?WQRy@"
    b"N+QVZ9BPaZ831D*C_w"
)


def examine_pictures() -> Iterator[Finding]:
    """Check which formats can be decoded here. Except for HEIC and RAW, libvips writes and decodes a small picture."""
    try:
        from flows.imaging.pixels.pillow import can_read_heic
        from flows.imaging.pixels.vips import load_vips

        vips = load_vips()
        version = ".".join(str(vips.version(part)) for part in range(3))
    except Exception as error:  # noqa: BLE001 - an import of a C library fails in many ways.
        yield _area.problem(
            "libvips",
            f"libvips cannot be loaded: {error}",
            "`pip install --force-reinstall pyvips-binary` installs it.",
        )
        return
    broken = [name for name, suffix in NEEDED if not _round_trip(vips, suffix)]
    if broken:
        yield _area.problem(
            "formats",
            f"libvips {version} cannot decode {', '.join(broken)}.",
            "`pip install --force-reinstall pyvips-binary` installs a libvips that decodes all of them.",
        )
    else:
        yield _area.fine("formats", f"libvips {version} decodes {', '.join(name for name, _ in NEEDED)}.")
    if _round_trip(vips, ".avif"):
        yield _area.fine("avif", "AVIF is decoded.")
    else:
        yield _area.warning(
            "avif",
            "The installed libvips has no decoder for AVIF; AVIF photos get no thumbnail and no preview.",
            "`pip install --force-reinstall pyvips-binary` installs a libvips with this decoder.",
        )
    if _decodes_heic(vips) or can_read_heic():
        yield _area.fine("heic", "HEIC is decoded.")
    else:
        yield _area.warning(
            "heic",
            "No decoder for HEIC is installed; HEIC photos get no thumbnail and no preview.",
            "`pip install 'photojobs[heic]'` installs a decoder.",
        )
    yield _raw()


def _round_trip(vips: object, suffix: str) -> bool:
    try:
        image = vips.Image.black(16, 16, bands=3)  # type: ignore[attr-defined]
        back = vips.Image.new_from_buffer(image.write_to_buffer(suffix), "")  # type: ignore[attr-defined]
        return int(back.width) == 16 and float(back.avg()) < 32
    except Exception:  # noqa: BLE001 - every error means that the format is not supported.
        return False


def _decodes_heic(vips: object) -> bool:
    """Return True if libvips can decode HEIC: the sample then fails because it is empty, not for lack of a decoder."""
    from flows.imaging.pixels.vips import is_unsupported_codec

    try:
        vips.Image.new_from_buffer(zlib.decompress(base64.b85decode(_HEIC_SAMPLE)), "").avg()  # type: ignore[attr-defined]
    except Exception as error:  # noqa: BLE001 - any error is possible; its text shows whether the decoder exists.
        return not is_unsupported_codec(error) and "heif" in str(error)
    return True


def _raw() -> Finding:
    from flows.imaging.pixels.raw import load_rawpy

    rawpy = load_rawpy()
    if rawpy is None:
        return _area.warning(
            "raw",
            "rawpy is not installed; RAW files without a JPEG get no thumbnail and no preview.",
            "`pip install 'photojobs[raw]'` installs it.",
        )
    version = ".".join(map(str, rawpy.libraw_version))
    return _area.fine("raw", f"LibRaw {version} reads the previews in RAW files.")
