"""A failure names its file once, also if the reason of a library or decoder begins with the name of the file."""

import pytest

from flows.errors import ItemsFailed, named, reason_of
from flows.handlers.failures import Failures, items_failed
from flows.handlers.job_report import Report
from flows.imaging.errors import UnreadableImage


@pytest.mark.parametrize(
    ("name", "reason", "text"),
    [
        ("fox", "fox.jpg: the file is empty.", "fox.jpg: the file is empty."),
        ("fox.jpg", "fox.jpg: the file is empty.", "fox.jpg: the file is empty."),
        ("Alps/fox.jpg", "fox.jpg: the file is missing", "Alps/fox.jpg: the file is missing"),
        ("Alps", "Alps: folder /x is unavailable", "Alps: folder /x is unavailable"),
        ("fox", "foxes.jpg: the file is empty.", "fox: foxes.jpg: the file is empty."),
        ("fox", "fox.jpg cannot be opened", "fox: fox.jpg cannot be opened"),
        ("fox", "the disk is full", "fox: the disk is full"),
    ],
)
def test_a_reason_that_begins_with_the_file_does_not_repeat_its_name(name, reason, text):
    assert named(name, reason) == text


def test_the_report_and_the_message_of_a_job_name_a_failed_file_once():
    error = UnreadableImage("fox.jpg: the file is empty.")
    report, failures = Report(), Failures()
    failures.count_tried("photo", 2)
    report.fail("fox", str(error))
    failures.add("photo", error, name="fox")
    assert report.examples["failed"] == ["fox.jpg: the file is empty."]
    with pytest.raises(Exception, match=r"^1 of 2 photos failed: fox\.jpg: the file is empty\.$"):
        failures.raise_if_any()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("is bad"), "is bad"),
        (ValueError(), "ValueError"),
        (ValueError(" \n"), "ValueError"),
        (OSError("stumbled"), "stumbled"),
        (OSError(28, "No space left"), "[Errno 28] No space left"),
        (
            OSError(13, "Permission denied", "/x/a\nb.jpg"),
            r"/x/a\nb.jpg: Permission denied. Check the path, its permissions and its disk.",
        ),
        (
            OSError(13, "Permission denied", "/x/a", None, "/x/b"),
            "/x/a → /x/b: Permission denied. Check the path, its permissions and its disk.",
        ),
        (OSError(9, "Bad descriptor", 7), "7: Bad descriptor. Check the path, its permissions and its disk."),
    ],
)
def test_a_reason_has_the_class_of_an_error_without_a_text_and_the_path_of_an_error_about_a_file(error, reason):
    assert reason_of(error) == reason
    assert str(items_failed("file", "could not be moved", [error])) == f"1 file could not be moved: {reason}"


@pytest.mark.parametrize(
    ("tried", "failed", "text"),
    [
        ({"photo": 1}, ["photo"], "1 photo failed: a: is bad"),
        ({"photo": 3}, ["photo"], "1 of 3 photos failed: a: is bad"),
        ({"photo": 3}, ["photo", "photo"], "2 of 3 photos failed; the first: a: is bad"),
        ({"project": 1}, ["project"], "1 project failed: a: is bad"),
        ({"project": 2, "photo": 1}, ["project", "photo"], "1 of 2 projects and 1 photo failed; the first: a: is bad"),
    ],
)
def test_the_message_of_a_job_counts_what_it_tried(tried, failed, text):
    failures = Failures()
    for noun, number in tried.items():
        failures.count_tried(noun, number)
    for noun, name in zip(failed, "ab", strict=False):
        failures.add(noun, ValueError("is bad"), name=name)
    with pytest.raises(ItemsFailed) as raised:
        failures.raise_if_any()
    assert str(raised.value) == text
