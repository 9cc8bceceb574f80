#!/usr/bin/env bash
# Prefect reads `0 3 */2 * 1` as "odd dates OR Mondays"; plain cron as "odd dates AND Mondays".
#
# Guess: both mean the same: Prefect takes cron texts, and its `day_or` is "matching cron".
# Behaviour: plain cron joins the two days by OR only if neither field begins with `*`; `*/2` does. Prefect joins by OR
#   unless a field names every day. With numbers, as in `0 3 1,15 * 1`, both run on either day.
# Versions: prefect 3.9.1, cronsim 2.8 (which follows Debian's cron)
# Date: 2026-11-28
# Source: crontab(5), the note on day of month and day of week; prefect/_vendor/croniter/croniter.py
# Covered by: task_definitions/cron.py; tests/task_definitions/test_cron_texts.py
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q prefect==3.9.1 cronsim==2.8 2>/dev/null

PREFECT_HOME="$work" "$work/venv/bin/python" - <<'TEST'
import asyncio
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from prefect.server.schemas.schedules import CronSchedule

from cronsim import CronSim

begin = datetime(2026, 6, 1, tzinfo=ZoneInfo("UTC"))


def days(text):
    prefect = asyncio.run(CronSchedule(cron=text, timezone="UTC").get_dates(n=5, start=begin))
    plain = CronSim(text, begin)
    found = [moment.day for moment in prefect], [next(plain).day for _ in range(5)]
    print(f"{text}: Prefect on {found[0]} June, plain cron on {found[1]}")
    return found


odd = days("0 3 */2 * 1")
same = days("0 3 1,15 * 1")
assert odd == ([1, 3, 5, 7, 8], [1, 15, 29, 13, 27]), odd
assert same[0] == same[1]
TEST
