"""Reads Prefect's HTTP API without Prefect's client, whose import takes seconds."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from typing import Any

from task_definitions.foreign_documents import Bounds, UnreadableDocument, parse_json
from task_definitions.wording import printable

#: How long the server may take to answer.
ANSWER_SECONDS = 5.0

_BOUNDS = Bounds(max_bytes=32 * 1024 * 1024, max_depth=64)


@dataclass(frozen=True, slots=True)
class ServerApi:
    """A Prefect API, whose URL ends with `/api`; `password` replaces the password in the environment."""

    url: str
    password: str | None = None

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send a request to a path such as `/deployments/filter`; return the answer.

        Raises:
            OSError: the server does not answer, or refuses.
            ValueError: the answer is not JSON within bounds.
        """
        try:
            return self._ask(path, body, {})
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.FORBIDDEN:
                raise
        # The server may require a token with each POST, as every server does that photojobs starts.
        client = str(uuid.uuid4())
        token = self._ask(f"/csrf-token?client={client}", None, {})["token"]
        return self._ask(path, body, {"Prefect-Csrf-Client": client, "Prefect-Csrf-Token": str(token)})

    def _ask(self, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> Any:
        headers = {"Content-Type": "application/json"} | authorization(self.password) | headers
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, headers)  # noqa: S310 - the user gave this URL.
        with opened_url(request, timeout_seconds=ANSWER_SECONDS) as answer:
            try:
                return parse_json(answer.read(_BOUNDS.max_bytes + 1), source=self.url, bounds=_BOUNDS)
            except UnreadableDocument as error:
                raise ValueError(str(error)) from None


@contextmanager
def opened_url(url: str | urllib.request.Request, *, timeout_seconds: float) -> Iterator[Any]:
    """Send a request, and give the block the answer, as `urllib.request.urlopen` does.

    Raises:
        OSError: the server does not answer, or refuses.
        ValueError: the URL is not valid, or the answer is not HTTP.
    """
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as answer:  # noqa: S310 - the user gave this URL.
            yield answer
    except HTTPException as error:
        raise ValueError(printable(str(error).strip()) or type(error).__name__) from error


def authorization(password: str | None = None) -> dict[str, str]:
    """Return the HTTP header that authenticates this process; empty without a password or key."""
    login, key = password or os.environ.get("PREFECT_API_AUTH_STRING"), os.environ.get("PREFECT_API_KEY")
    if login:
        return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    return {"Authorization": f"Bearer {key}"} if key else {}
