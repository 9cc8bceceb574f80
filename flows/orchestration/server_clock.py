"""Compares the clock of Prefect's server, which dates the states of flow runs, with the clock that dates tasks.

`deployments.doctor.surroundings` reports clocks that differ.
"""

from __future__ import annotations

from datetime import timedelta
from email.utils import parsedate_to_datetime

from httpx import HTTPStatusError
from prefect.client.orchestration import SyncPrefectClient

from storage.database.engine import Database

#: The result of `server_lead` if the clocks agree.
NO_LEAD = timedelta()

#: A smaller difference counts as none, because the server states its time in whole seconds, and some seconds late while
#: it is busy.
TOLERATED = timedelta(seconds=10)


def server_lead(client: SyncPrefectClient, database: Database) -> timedelta:
    """Return by how much the clock of Prefect's server is ahead of the clock that dates tasks; negative if behind.

    To compare a moment of a task with the timestamp of a state, add the result to the moment.
    """
    try:
        response = client.request("GET", "/health")
    except HTTPStatusError as error:
        # A server behind a proxy may not answer at this path, but its answer has a date, too.
        response = error.response
    date = response.headers.get("Date")
    lead = NO_LEAD if date is None else parsedate_to_datetime(date) - database.clock()
    return lead if abs(lead) > TOLERATED else NO_LEAD
