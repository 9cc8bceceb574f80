#!/usr/bin/env bash
# Prefect runs `0 20-20 * * *` every hour.
#
# Guess: a range with equal ends is that value, as in plain cron: once a day at 20:00.
# Behaviour: the range is taken to go once around, so that it is every hour. `59/9` becomes `59-59/9`, and so every ninth
#   minute.
# Versions: prefect 3.9.1, cronsim 2.8 (which follows Debian's cron)
# Date: 2026-11-28
# Source: prefect/_vendor/croniter/croniter.py, _expand
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

begin = datetime(2026, 6, 1, 0, 30, tzinfo=ZoneInfo("UTC"))
text = "0 20-20 * * *"
prefect = [moment.hour for moment in asyncio.run(CronSchedule(cron=text, timezone="UTC").get_dates(n=3, start=begin))]
plain = CronSim(text, begin)
cron = [next(plain).hour for _ in range(3)]
print(f"{text}: Prefect at the hours {prefect}, plain cron at {cron}")
assert prefect == [1, 2, 3]
assert cron == [20, 20, 20]
TEST
