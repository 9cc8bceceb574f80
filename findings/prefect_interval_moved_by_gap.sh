#!/usr/bin/env bash
# A daily interval of Prefect at 2:30 is at 3:30 for ever after the first spring in which 2:30 is missing.
#
# Guess: as IntervalSchedule says, "the clock-hour remains constant"; the night of the change alone differs.
# Behaviour: the run that meets the gap moves to 3:30, and all later ones are counted from it: still 3:30 in winter. An
#   anchor that meets no gap, such as midnight in Europe, keeps its time.
# Versions: prefect 3.9.1
# Date: 2026-11-28
# Source: prefect/server/schemas/schedules.py, _seek_calendar_interval
# Covered by: deployments/deploying/runner_deployments.py, INTERVAL_ANCHOR; tests/deployments/deploying/test_summer_time.py
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q prefect==3.9.1 2>/dev/null

PREFECT_HOME="$work" "$work/venv/bin/python" - <<'TEST'
import asyncio
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from prefect.server.schemas.schedules import IntervalSchedule

berlin = ZoneInfo("Europe/Berlin")


def times(hour, minute):
    anchor = datetime(2026, 1, 1, hour, minute, tzinfo=berlin)
    daily = IntervalSchedule(interval=timedelta(days=1), anchor_date=anchor, timezone="Europe/Berlin")
    found = []
    for month in (3, 4, 12):
        (moment,) = asyncio.run(daily.get_dates(n=1, start=datetime(2026, month, 10, tzinfo=berlin)))
        found.append(moment.astimezone(berlin).strftime("%H:%M"))
    print(f"begun at {hour}:{minute:02}: in March, April and December at {', '.join(found)}")
    return found


assert times(2, 30) == ["02:30", "03:30", "03:30"]
assert times(0, 0) == ["00:00", "00:00", "00:00"]
TEST
