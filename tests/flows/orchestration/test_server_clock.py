"""The clock of Prefect's server is compared with the clock of the database, whatever the server answers."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from httpx import Request, Response

from flows.orchestration.server_clock import NO_LEAD, server_lead


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize(("hour", "lead"), [(11, timedelta(hours=1)), (12, NO_LEAD)])
def test_the_date_of_any_answer_shows_the_clock_of_the_server(status: int, hour: int, lead: timedelta) -> None:
    def request(method: str, path: str) -> Response:
        headers = {"Date": "Sun, 29 Nov 2026 12:00:00 GMT"}
        return Response(status, headers=headers, request=Request(method, f"http://prefect{path}")).raise_for_status()

    client: Any = SimpleNamespace(request=request)
    database: Any = SimpleNamespace(clock=lambda: datetime(2026, 11, 29, hour, tzinfo=UTC))
    assert server_lead(client, database) == lead
