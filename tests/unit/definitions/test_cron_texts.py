"""Which cron texts are accepted."""

import pytest

from task_definitions.cron import check_cron


@pytest.mark.parametrize(
    "text",
    [
        "* * * * *",
        "0 3 * * *",
        "*/15 0-23/2 1,15 * 1-5",
        "5/20 * * * *",
        "0 0 * jan,JUN-aug sun",
        "0 0 * * 7",
        "0 0 29 2 *",
        "0 0 31 1-2 *",
        # Either kind of day fires, and Mondays come also in a February.
        "0 0 30 2 1",
        "@daily",
        "@hourly",
        "  0\t3 * * *  ",
    ],
)
def test_a_cron_text_that_fires_some_day_is_accepted(text: str) -> None:
    check_cron(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it has 0 fields and not 5"),
        ("0 3 * * * *", "it has 6 fields and not 5"),
        ("@reboot", "it has 1 fields and not 5"),
        ("60 * * * *", "the minute 60 is not between 0 and 59"),
        ("* 24 * * *", "the hour 24 is not between 0 and 23"),
        ("* * 0 * *", "the day of month 0 is not between 1 and 31"),
        ("* * * 13 *", "the month 13 is not between 1 and 12"),
        ("* * * * 8", "the day of week 8 is not between 0 and 7"),
        ("* * * * mo", 'the day of week "mo" is not a number'),
        ("jan * * * *", 'the minute "jan" is not a number'),
        ("5-1 * * * *", 'the minute range "5-1" runs backwards'),
        ("*/0 * * * *", "the minute step 0 is not between 1 and 59"),
        ("*/99999999999 * * * *", "the minute step 9999 is not between 1 and 59"),
        ("1,,2 * * * *", 'the minute "" is not understood'),
        ("*5 * * * *", 'the minute "*5" is not understood'),
        ("-1 * * * *", 'the minute "-1" is not understood'),
        ("H * * * *", 'the minute "h" is not a number'),
        ("\u0661 * * * *", 'the minute "\u0661" is not understood'),
        ("0 0 30 2 *", "it never fires, because none of its months has a day 30"),
        ("0 0 31 4,6,9,11 *", "it never fires, because none of its months has a day 31"),
        ("0 " * 300, "it is longer than 400 characters"),
    ],
)
def test_a_cron_text_that_no_cron_understands_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError) as raised:
        check_cron(text)
    assert str(raised.value) == problem
