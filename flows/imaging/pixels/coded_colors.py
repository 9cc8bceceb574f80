"""Converts pixels to sRGB if the file defines its colors by code points of ITU-T H.273 (CICP) instead of a profile.

HEIC and AVIF files have the code points in a `colr` box of type `nclx`, PNG files in a `cICP` chunk. HDR pictures of
cameras use them. Decoders such as libheif return the pixels without converting them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from flows.imaging.headers.containers import boxes, number, png_chunks
from flows.imaging.headers.tiff import Reader
from flows.imaging.pixels import vips

#: The code point for "unspecified", which counts as sRGB.
_UNSPECIFIED: Final = 2
#: The chromaticities of red, green and blue for each code point of primaries, from H.273, table 2. The white is D65.
_PRIMARIES: Final = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    5: ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060)),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
_WHITE: Final = (0.3127, 0.3290)
#: The code points of transfer curves that count as the curve of sRGB (13), as in browsers.
_LIKE_SRGB: Final = frozenset({1, _UNSPECIFIED, 6, 11, 13, 14, 15})
_GAMMAS: Final = {4: 2.2, 5: 2.8, 8: 1.0}
_PQ, _HLG = 16, 18

#: The brightness, in cd/m², that becomes white: white paper in an HDR picture, from Report ITU-R BT.2408.
_WHITE_NITS = 203.0
#: The brightest light that is not clipped, in cd/m². HDR screens and cameras are made for this brightness.
_PEAK_NITS = 1000.0
#: The constants of PQ, from Recommendation ITU-R BT.2100, table 4.
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
#: The constants of the curve HLG, from Recommendation ITU-R BT.2100, table 5.
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073
#: The gamma of a screen that shows HLG, from the same table.
_SYSTEM_GAMMA = 1.2
#: The shares of red, green and blue in the luminance, from the same table.
_LUMINANCE: Final = [0.2627, 0.6780, 0.0593]


@dataclass(frozen=True, slots=True)
class CodedColors:
    """The code points that define which colors the values of a picture represent.

    Attributes:
        primaries: the code point of the chromaticities of red, green and blue.
        transfer: the code point of the curve from values to light.
        outranks_profile: whether the code points apply even if the file also has a profile.
    """

    primaries: int
    transfer: int
    outranks_profile: bool = False

    @property
    def is_srgb(self) -> bool:
        """Whether the pixels need no conversion."""
        return self.primaries in (1, _UNSPECIFIED) and self.transfer in _LIKE_SRGB

    @property
    def is_known(self) -> bool:
        """Whether the pixels can be converted."""
        has_curve = self.transfer in _LIKE_SRGB or self.transfer in _GAMMAS or self.transfer in (_PQ, _HLG)
        return has_curve and (self.primaries == _UNSPECIFIED or self.primaries in _PRIMARIES)

    def to_srgb(self, image: Any) -> Any:
        """Convert a libvips image with these colors to sRGB, 8 bits per channel; transparency is kept.

        The highlights of an HDR picture are compressed as in Report ITU-R BT.2390.
        """
        largest = 255 if image.format == "uchar" else 65535
        has_alpha = image.bands in (2, 4)
        values = image[: image.bands - has_alpha] / largest
        if values.bands == 1:
            values = values.bandjoin([values, values])
        colors = _from_xyz(self._light(values).recomb(_matrix(_xyz_of(self.primaries))))
        return colors.bandjoin((image[image.bands - 1] * (255 / largest)).rint().cast("uchar")) if has_alpha else colors

    def _light(self, values: Any) -> Any:
        """Convert coded values from 0 to 1 to linear light, in which 1 is white."""
        if self.transfer == _PQ:
            return _compressed(_pq_nits(values) / _WHITE_NITS)
        if self.transfer == _HLG:
            return _compressed(_hlg_nits(values) / _WHITE_NITS)
        if self.transfer in _GAMMAS:
            return values ** _GAMMAS[self.transfer]
        return (values <= 0.04045).ifthenelse(values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def read_coded_colors(read_at: Reader, *, size_bytes: int) -> CodedColors | None:
    """Return the code points in a HEIC, AVIF or PNG file; None if the file has none."""
    head = read_at(0, 8)
    if head[4:8] == b"ftyp":
        for kind, start, end in boxes(read_at, 0, size_bytes):
            if kind == b"meta":
                return _of_primary_item(read_at, start + 4, end)
    elif head == b"\x89PNG\r\n\x1a\n":
        for kind, start, _ in png_chunks(read_at, size_bytes):
            pair = read_at(start, 2) if kind == b"cICP" else b""
            if len(pair) == 2:
                return CodedColors(pair[0], pair[1], outranks_profile=True)
            if kind == b"IDAT":
                break
    return None


def _of_primary_item(read_at: Reader, start: int, end: int) -> CodedColors | None:
    parts = {kind: (at, stop) for kind, at, stop in boxes(read_at, start, end)}
    if b"pitm" not in parts or b"iprp" not in parts:
        return None
    at, _ = parts[b"pitm"]
    item = number(">I", read_at(at + 4, 4)) if read_at(at, 1) > b"\0" else number(">H", read_at(at + 4, 2))
    properties: list[tuple[bytes, int]] = []
    chosen: list[int] = []
    for kind, at, stop in boxes(read_at, *parts[b"iprp"]):
        if kind == b"ipco":
            properties = [(name, inner) for name, inner, _ in boxes(read_at, at, stop)]
        elif kind == b"ipma":
            chosen += [index for owner, index in _associations(read_at(at, min(stop - at, 1 << 20))) if owner == item]
    for index in chosen:
        if 0 < index <= len(properties) and properties[index - 1][0] == b"colr":
            content = read_at(properties[index - 1][1], 8)
            if content[:4] == b"nclx" and len(content) == 8:
                return CodedColors(number(">H", content[4:6]), number(">H", content[6:]))
    return None


def _associations(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the pairs in an `ipma` box: the id of an item, and the number of one of its properties, counted from 1."""
    item_form, item_size = (">I", 4) if content[:1] > b"\0" else (">H", 2)
    index_form, index_size, mask = (">H", 2, 0x7FFF) if content[3:4] and content[3] & 1 else (">B", 1, 0x7F)
    at = 8
    while at + item_size < len(content):
        item, count = number(item_form, content[at : at + item_size]), content[at + item_size]
        at += item_size + 1
        for _ in range(count):
            yield item, number(index_form, content[at : at + index_size]) & mask
            at += index_size


def _xyz_of(primaries: int) -> list[list[float]]:
    """Return the matrix from linear red, green and blue to XYZ; white has the luminance 1."""
    colors = _PRIMARIES[1 if primaries == _UNSPECIFIED else primaries]
    columns = [(x / y, 1.0, (1 - x - y) / y) for x, y in colors]
    white = (_WHITE[0] / _WHITE[1], 1.0, (1 - sum(_WHITE)) / _WHITE[1])
    # Cramer's rule gives the share of each primary in white.
    whole = _determinant(columns)
    scales = [
        _determinant([white if other == index else column for other, column in enumerate(columns)]) / whole
        for index in range(3)
    ]
    return [[column[row] * scale for column, scale in zip(columns, scales, strict=True)] for row in range(3)]


def _determinant(columns: list[tuple[float, float, float]]) -> float:
    (a, d, g), (b, e, h), (c, f, i) = columns
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def _matrix(rows: list[list[float]]) -> Any:
    return vips.load_vips().Image.new_from_array(rows)


def _from_xyz(xyz: Any) -> Any:
    return (xyz * 100).copy(interpretation="xyz").colourspace("srgb")


def _pq_nits(values: Any) -> Any:
    """Return the light in cd/m² for values from 0 to 1 on the curve PQ."""
    roots = values ** (1 / _M2)
    above = (roots > _C1).ifthenelse(roots - _C1, 0)
    return (above / (_C2 - roots * _C3)) ** (1 / _M1) * 10_000


def _pq_values(nits: Any) -> Any:
    powers = (nits / 10_000) ** _M1
    return ((powers * _C2 + _C1) / (powers * _C3 + 1)) ** _M2


def _hlg_nits(values: Any) -> Any:
    """Return the light in cd/m² that a screen of 1,000 cd/m² shows for values from 0 to 1 on the curve HLG."""
    scene = (values <= 0.5).ifthenelse(values**2 / 3, (((values - _C) / _A).exp() + _B) / 12)
    luminance = scene.recomb(_matrix([_LUMINANCE]))
    return scene * (luminance ** (_SYSTEM_GAMMA - 1)) * _PEAK_NITS


def _compressed(light: Any) -> Any:
    """Compress bright light, so that `_PEAK_NITS` becomes white; hues are kept, and dark parts do not change."""
    brightest = light[0].bandrank([light[1], light[2]], index=2)
    peak = _pq_values(_PEAK_NITS)
    limit = _pq_values(_WHITE_NITS) / peak
    knee = 1.5 * limit - 0.5
    relative = _pq_values(brightest * _WHITE_NITS) / peak
    relative = (relative < 1).ifthenelse(relative, 1)
    t = (relative - knee) / (1 - knee)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * limit
    shown = _pq_nits((relative < knee).ifthenelse(relative, curve) * peak) / _WHITE_NITS
    return light * (brightest > 0).ifthenelse(shown / brightest, 1)
