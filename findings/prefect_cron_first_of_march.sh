#!/usr/bin/env bash
# Prefect leaves out 1 March for a schedule on the 1st and the 31st of each month.
#
# Guess: `0 3 1,31 * *` runs on the first of every month, as cron does.
# Behaviour: from the last run in February it goes on to "31 February", which is 3 March, and passes over 1 March. So do
#   `*/5` (1, 6, ... 31) and `1,30`; with 29, 30 and 31 all in the list nothing is left out.
# Versions: prefect 3.9.1
# Date: 2026-11-28
# Source: prefect/_vendor/croniter/croniter.py, the search for the nearest day
# Covered by: task_definitions/cron.py; tests/task_definitions/test_cron_texts.py
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q prefect==3.9.1 2>/dev/null

PREFECT_HOME="$work" "$work/venv/bin/python" - <<'TEST'
import asyncio
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from prefect.server.schemas.schedules import CronSchedule

begin = datetime(2026, 2, 1, tzinfo=ZoneInfo("UTC"))


def first_runs(text):
    moments = asyncio.run(CronSchedule(cron=text, timezone="UTC").get_dates(n=4, start=begin))
    found = [f"{moment:%-d %b}" for moment in moments]
    print(f"{text}: {', '.join(found)}")
    return found


assert first_runs("0 3 1,31 * *") == ["1 Feb", "31 Mar", "1 Apr", "1 May"]
assert "1 Mar" in first_runs("0 3 1,29,30,31 * *")
TEST
