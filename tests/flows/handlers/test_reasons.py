"""A failure names its file once, also if the reason of a library or decoder begins with the name of the file."""

import pytest

from flows.errors import named
from flows.handlers.failures import Failures
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
    report, failures = Report(), Failures("photo")
    failures.tried = 2
    report.fail("fox", str(error))
    failures.add(error, name="fox")
    assert report.examples["failed"] == ["fox.jpg: the file is empty."]
    with pytest.raises(Exception, match=r"^1 of 2 photos failed; the first: fox\.jpg: the file is empty\.$"):
        failures.raise_if_any()
