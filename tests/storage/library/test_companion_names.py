"""The photo to which a file belongs by its name, for each program; see docs/reference/companions.md."""

from __future__ import annotations

import pytest

from storage.library.naming.companions import owner_keys
from storage.library.naming.kinds import AcceptedExtensions

LONG = "Urlaub in Knaufspesch in der Schneifel am Wochenende"


def owner(path: str, *photos: str, accepted: AcceptedExtensions | None = None) -> str | None:
    """Return the photo that the file fits best; if several fit equally, the first of them."""
    keys = {key: photo for photo in reversed(photos) for key in owner_keys(photo)}
    fits = (accepted or AcceptedExtensions()).fits(path)
    return next((keys[fit.key] for fit in fits if fit.key in keys), None)


@pytest.mark.parametrize(
    ("path", "photo"),
    [
        ("IMG_9.MOV", "IMG_9"),
        ("IMG_9.AAE", "IMG_9"),
        ("IMG_9.WAV", "IMG_9"),
        ("IMG_O1234.AAE", "IMG_1234"),
        ("IMG_E1234.aae", "IMG_1234"),
        ("IMG_E1234.MOV", "IMG_1234"),
        ("IMG_9.xmp", "IMG_9"),
        ("IMG_9.jpg.xmp", "IMG_9"),
        ("IMG_9_01.jpg.xmp", "IMG_9"),
        ("IMG_9.jpg.pp3", "IMG_9"),
        ("IMG_9.jpg.out.pp3", "IMG_9"),
        ("IMG_9.CR2.dop", "IMG_9"),
        ("IMG_9.jpg.json", "IMG_9"),
        ("IMG_9.jpg.supplemental-metadata.json", "IMG_9"),
        ("IMG_9.jpg.suppl.json", "IMG_9"),
        ("IMG_9.jpg(1).json", "IMG_9(1)"),
        ("IMG_9.jpg.supplemental-metadata(1).json", "IMG_9(1)"),
        ("IMG_9(1).jpg.json", "IMG_9(1)"),
        ("PXL_9.MP", "PXL_9.MP"),
        ("NKSC_PARAM/IMG_9.NEF.nksc", "IMG_9"),
        ("CaptureOne/Settings153/IMG_9.CR2.cos", "IMG_9"),
        ("CaptureOne/Settings153/IMG_9.CR2.1.lcc", "IMG_9"),
        ("IMG_9.MOV.xmp", "IMG_9"),
        ("IMG_9.MP4.supplemental-metadata.json", "IMG_9"),
        ("IMG_9.xmp.bak", "IMG_9"),
        ("IMG_9.sync-conflict-20230101-120000-ABCDEFG.xmp", "IMG_9"),
        ("IMG_9.jpg.sync-conflict-20230101-120000-ABCDEFG.pp3", "IMG_9"),
        ("my.photo.xmp", "my.photo"),
        (f"{LONG}.jpg"[:46] + ".json", LONG),
        (f"{LONG}.jpg"[:46] + "(2).json", f"{LONG}(2)"),
        ("Urlaub in Knaufspesch in der Schneifel (38).JP.json", "Urlaub in Knaufspesch in der Schneifel (38)"),
        ("123456789123456789123456789123456789_DSCN0091..json", "123456789123456789123456789123456789_DSCN0091"),
        (
            "123456789123456789123456789123456789_DSCN0091.JP.supplemental-meta(1).json",
            "123456789123456789123456789123456789_DSCN0091(1)",
        ),
    ],
)
def test_a_file_belongs_to_the_photo_that_its_program_means(path, photo):
    assert owner(path, photo) == photo
    assert owner(path, f"5{photo}", "IMG_95", "IMG", "other") is None


@pytest.mark.parametrize(
    ("path", "photos", "wanted"),
    [
        ("IMG_9_01.jpg.xmp", ("IMG_9", "IMG_9_01"), "IMG_9_01"),
        ("IMG_9.jpg(1).json", ("IMG_9",), None),
        ("IMG_9.jpg(1).json", ("IMG_9", "IMG_9(1)"), "IMG_9(1)"),
        ("IMG_95.MOV", ("IMG_9",), None),
        ("CaptureOne/Cache/Proxies/IMG_9.CR2.cop", ("IMG_9",), None),
        ("IMG_9.MOV.xmp", ("IMG_9", "IMG_9.MOV"), "IMG_9.MOV"),
        ("IMG_9.MP4(1).json", ("IMG_9",), None),
        ("2024.01.05.mov", ("2024", "2024.01"), None),
        ("IMG_9.sync-conflict-20230101-120000-ABCDEFG.jpg", ("IMG_9",), None),
        (
            "IMG_9.sync-conflict-20230101-120000-ABCDEFG.xmp",
            ("IMG_9", "IMG_9.sync-conflict-20230101-120000-ABCDEFG"),
            "IMG_9.sync-conflict-20230101-120000-ABCDEFG",
        ),
        ("IMG_E1234.AAE", ("IMG_1234", "IMG_E1234"), "IMG_E1234"),
        ("IMG_E1234.JPG", ("IMG_1234",), None),
        ("IMG_X1234.AAE", ("IMG_1234",), None),
        ("_DSC1234.NEF", ("DSC_1234", "DSC1234"), None),
        ("PXL_9.MP", ("PXL_9", "PXL_9.MP"), "PXL_9.MP"),
        ("IMG_9.jpg", ("IMG_9",), "IMG_9"),
        ("NKSC_PARAM/IMG_9.txt", ("IMG_9",), None),
        ("Other/IMG_9.NEF.nksc", ("IMG_9",), None),
        (".IMG_9.jpg.xmp", ("IMG_9",), None),
    ],
)
def test_a_file_never_belongs_to_another_photo(path, photos, wanted):
    assert owner(path, *photos) == wanted


@pytest.mark.parametrize(
    ("pattern", "path", "photo"),
    [
        ("{base}-edit.psd", "IMG_9-edit.psd", "IMG_9"),
        ("Edits/{file}.*", "Edits/IMG_9.jpg.acr", "IMG_9"),
        ("Edits/{file}.*", "Edits/IMG_9.jpg.2.acr", "IMG_9"),
        ("export_{base}.mp?", "export_IMG_9.mp4", "IMG_9"),
    ],
)
def test_a_setting_adds_names(pattern, path, photo):
    accepted = AcceptedExtensions(companion_patterns=(pattern,))
    assert owner(path, photo) is None
    assert owner(path, photo, accepted=accepted) == photo
    [fit] = [fit for fit in accepted.fits(path) if fit.base_name == photo]
    assert fit.renamed("fox", old=photo) == path.replace(photo, "fox")


@pytest.mark.parametrize(
    "pattern", ["", "{base}", "*.psd", "{base}{file}", "{base}/x", "a/b/c/{base}.x", "../{base}.x"]
)
def test_a_pattern_that_means_nothing_is_refused(pattern):
    with pytest.raises(ValueError, match=r"needs exactly one|must name a file|would make every file"):
        AcceptedExtensions(companion_patterns=(pattern,))


def test_what_apple_marked_keeps_its_mark_and_its_photo_once_that_is_renamed():
    [fit] = [fit for fit in AcceptedExtensions().fits("IMG_O1234.AAE") if fit.mark]
    assert fit.renamed("IMG_1234", old="IMG_1234") == "IMG_O1234.AAE"
    renamed = fit.renamed("IMG_1234_duplicate1", old="IMG_1234")
    assert renamed == "IMG_O1234_duplicate1.AAE"
    assert owner(renamed, "IMG_1234_duplicate1", "IMG_1234") == "IMG_1234_duplicate1"


def test_a_name_that_takeout_cut_or_numbered_is_one_without_a_rule_once_its_photo_is_renamed():
    fits = AcceptedExtensions().fits
    [numbered] = [fit for fit in fits("IMG_9.jpg(1).json") if fit.base_name == "IMG_9(1)"]
    assert numbered.renamed("IMG_9(1)", old="IMG_9(1)") == "IMG_9.jpg(1).json"
    assert numbered.renamed("fox", old="IMG_9(1)") == "fox.jpg.json"
    [cut] = [fit for fit in fits(LONG[:46] + ".json") if fit.is_cut]
    assert cut.renamed(LONG, old=LONG) == LONG[:46] + ".json"
    assert cut.renamed("fox", old=LONG) == "fox.json"
