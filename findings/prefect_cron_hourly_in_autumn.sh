#!/usr/bin/env bash
# An hourly cron schedule of Prefect pauses for two hours when the clocks go back.
#
# Guess: `0 * * * *` runs each hour that passes, as plain cron does: schedules that run every hour ignore the change.
# Behaviour: each wall time runs once, the first time. In the autumn night 2:00 runs once, and the next run is two hours
#   later. In spring a time in the missing hour runs an hour later by the clock.
# Versions: prefect 3.9.1, cronsim 2.8 (which follows Debian's cron)
# Date: 2026-11-28
# Source: the note in prefect/server/schemas/schedules.py, CronSchedule; cron(8) of Debian on clock changes
# Covered by: docs/explanation/schedules.md; tests/deployments/deploying/test_summer_time.py
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

berlin, utc = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")
begin = datetime(2026, 10, 25, 1, 30, tzinfo=berlin)
prefect = asyncio.run(CronSchedule(cron="0 * * * *", timezone="Europe/Berlin").get_dates(n=3, start=begin))
plain = CronSim("0 * * * *", begin)
prefect_hours = [moment.astimezone(utc).hour for moment in prefect]
cron_hours = [next(plain).astimezone(utc).hour for _ in range(3)]
print(f"hours in UTC after 25 October 2026, 1:30: Prefect {prefect_hours}, plain cron {cron_hours}")
assert prefect_hours == [0, 2, 3]
assert cron_hours == [0, 1, 2]
(spring,) = asyncio.run(
    CronSchedule(cron="30 2 * * *", timezone="Europe/Berlin").get_dates(n=1, start=datetime(2026, 3, 29, tzinfo=berlin))
)
print(f"2:30 on 29 March 2026 is at {spring.astimezone(berlin):%H:%M}")
assert spring.astimezone(berlin).strftime("%H:%M") == "03:30"
TEST
