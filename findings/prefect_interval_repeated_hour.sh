#!/usr/bin/env bash
# Before Python 3.13, an hourly interval of Prefect leaves out the hour that comes twice in autumn.
#
# Guess: as IntervalSchedule says, intervals below a day "follow UTC intervals": a run each hour that passes.
# Behaviour: on Python 3.11 and 3.12 the second 2:00 is missing; on 3.13, where other code plans, it is there. In UTC it
#   is always there.
# Versions: prefect 3.9.1 on Python 3.11 and 3.13
# Date: 2026-11-28
# Source: prefect/server/schemas/schedules.py, IntervalSchedule: a set of moments of one zone, which compare without fold
# Covered by: deployments/deploying/runner_deployments.py, _schedule; tests/deployments/deploying/test_summer_time.py
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

import sys

berlin = ZoneInfo("Europe/Berlin")
begin, end = datetime(2026, 10, 25, tzinfo=berlin), datetime(2026, 10, 25, 5, tzinfo=berlin)


def runs(timezone):
    hourly = IntervalSchedule(interval=timedelta(hours=1), anchor_date=datetime(2020, 1, 1, tzinfo=berlin), timezone=timezone)
    moments = asyncio.run(hourly.get_dates(n=100, start=begin, end=end))
    local = sorted(moment.astimezone(ZoneInfo("UTC")) for moment in moments)
    print(f"in {timezone}: {', '.join(moment.astimezone(berlin).strftime('%H:%M%z') for moment in local)}")
    return len(moments)


assert runs("UTC") == 7
assert runs("Europe/Berlin") == (7 if sys.version_info >= (3, 13) else 6)
TEST
