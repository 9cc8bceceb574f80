"""Cron texts are accepted only if plain cron and Prefect run them at the same moments."""

import asyncio
from datetime import UTC, datetime

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st
from prefect.server.schemas.schedules import CronSchedule

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
        "0 0 1-28/5 * *",
        "0 0 1,29-31 * *",
        "0 0 1,31 3 *",
        "0 0 */2 * *",
        "0 0 1-7 * 1-5",
        "@daily",
        "@hourly",
        "  0\t3 * * *  ",
    ],
)
def test_a_cron_text_that_fires_some_day_is_accepted(text: str) -> None:
    check_cron(text)


TERM = '; write "*", a number or a range, as in "1-5"'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it has 0 fields instead of 5"),
        ("0 3 * * * *", "it has 6 fields instead of 5"),
        ("@reboot", "it has 1 field instead of 5"),
        ("60 * * * *", "the minute 60 is not between 0 and 59"),
        ("* 24 * * *", "the hour 24 is not between 0 and 23"),
        ("* * 0 * *", "the day of month 0 is not between 1 and 31"),
        ("* * * 13 *", "the month 13 is not between 1 and 12"),
        ("* * * * 8", "the day of week 8 is not between 0 and 7"),
        ("* * * * mo", 'the day of week "mo" is not valid; write a number from 0 to 7, or a name such as sun'),
        ("jan * * * *", 'the minute "jan" is not valid; write a number from 0 to 59'),
        ("12345 * * * *", 'the minute "12345" is not valid; write a number from 0 to 59'),
        ("5-1 * * * *", 'the minute range "5-1" ends before it begins; write two ranges'),
        ("*/0 * * * *", "the minute step 0 is not between 1 and 59"),
        ("*/99999999999 * * * *", "the minute step 9999 is not between 1 and 59"),
        ("1,,2 * * * *", 'the minute "" is not valid' + TERM),
        ("*5 * * * *", 'the minute "*5" is not valid' + TERM),
        ("-1 * * * *", 'the minute "-1" is not valid' + TERM),
        ("H * * * *", 'the minute "h" is not valid; write a number from 0 to 59'),
        ("\u0661 * * * *", 'the minute "\u0661" is not valid' + TERM),
        ("0 0 30 2 *", "none of the given months has a day 30"),
        ("0 0 31 4,6,9,11 *", "none of the given months has a day 31"),
        # Plain cron would run on Mondays; Prefect finds no moment at all.
        ("0 0 30 2 1", "none of the given months has a day 30"),
        ("0 " * 300, "it is longer than 400 characters"),
    ],
)
def test_a_cron_text_that_no_cron_understands_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError) as raised:
        check_cron(text)
    assert str(raised.value) == problem


BOTH_MATCH = (
    'contains "*", and the other day field is restricted, too. cron would run on days that match both fields, Prefect '
    "on days that match one of them. Write the days as numbers; then both run on days that match one of the fields. Or "
    "restrict only one of the two fields"
)
LEFT_OUT = (
    "with these days of the month, Prefect would not run on {} March; end them at 28, as in 1-28/5, or add 29, 30 and "
    "31"
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0 3 */2 * 1", f'the day of month "*/2" {BOTH_MATCH}'),
        ("0 3 13 * */3", f'the day of week "*/3" {BOTH_MATCH}'),
        ("0 3 13 * 0-6", 'the day of week "0-6" means every day; write "*"'),
        ("0 3 1-31 * 1", 'the day of month "1-31" means every day; write "*"'),
        ("0 3 1,* * 1", 'the day of month "1,*" is a list with "*", which means every value; write only "*"'),
        ("0 20-20 * * *", 'the hour range "20-20" is one value; write "20"'),
        ("59/9 * * * *", 'Prefect and cron read the minute "59/9" differently; write a range, as in "1-5/2"'),
        ("0 3 * * 4/3", 'Prefect and cron read the day of week "4/3" differently; write a range, as in "1-5/2"'),
        ("0 3 */5 * *", LEFT_OUT.format(1)),
        ("0 3 2,31 * *", LEFT_OUT.format(2)),
        ("0 3 1-31/3 * *", LEFT_OUT.format(1)),
    ],
)
def test_a_cron_text_that_prefect_reads_unlike_plain_cron_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError) as raised:
        check_cron(text)
    assert str(raised.value) == problem


def _terms(lowest: int, highest: int) -> st.SearchStrategy[str]:
    value = st.integers(lowest, highest)
    step = st.integers(1, highest)
    return st.one_of(
        st.just("*"),
        value.map(str),
        step.map("*/{}".format),
        st.tuples(value, step).map(lambda pair: "{}/{}".format(*pair)),
        st.tuples(value, value).map(lambda pair: "{}-{}".format(*sorted(pair))),
        st.tuples(value, value, step).map(lambda three: "{}-{}/{}".format(*sorted(three[:2]), three[2])),
    )


def _fields(lowest: int, highest: int) -> st.SearchStrategy[str]:
    return st.lists(_terms(lowest, highest), min_size=1, max_size=3).map(",".join)


@given(
    days=_fields(1, 31) | st.just("*"),
    months=_fields(1, 12) | st.just("*"),
    weekdays=_fields(0, 7) | st.just("*"),
    minutes_and_hours=st.tuples(_fields(0, 59), _fields(0, 23)),
)
def test_what_is_accepted_means_the_same_to_prefect_and_to_plain_cron(
    days: str, months: str, weekdays: str, minutes_and_hours: tuple[str, str]
) -> None:
    begin = datetime(2027, 12, 30, 12, tzinfo=UTC)
    days_only, whole = f"0 12 {days} {months} {weekdays}", f"{' '.join(minutes_and_hours)} * * *"
    for text, number in ((days_only, 60), (whole, 100)):
        try:
            check_cron(text)
        except ValueError:
            continue
        plain = CronSim(text, begin)
        try:
            expected = [next(plain) for _ in range(number)]
        except StopIteration:
            # It looks fifty years ahead.
            continue
        planned = asyncio.run(CronSchedule(cron=text, timezone="UTC").get_dates(n=number, start=begin))
        # Prefect begins with the moment itself, plain cron after it.
        assert [moment for moment in planned if moment > begin][: number - 1] == expected[: number - 1], text
