"""Prefect's HTTP API for commands that only read from it: without Prefect's client, whose import takes seconds."""

from __future__ import annotations

import base64
import json
import os
import urllib.request
from dataclasses import dataclass
from typing import Any

#: How long the server may take for an answer.
ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ServerApi:
    """The API at a URL that ends with `/api`."""

    url: str

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to a request, such as `/deployments/filter`.

        Raises:
            OSError: the server does not answer, or refuses.
            ValueError: the answer is not JSON.
        """
        headers = {"Content-Type": "application/json"} | _authorization()
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)  # noqa: S310 - the user's.
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - as above.
            return json.loads(answer.read())


def _authorization() -> dict[str, str]:
    login, key = os.environ.get("PREFECT_API_AUTH_STRING"), os.environ.get("PREFECT_API_KEY")
    if login:
        return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    return {"Authorization": f"Bearer {key}"} if key else {}
