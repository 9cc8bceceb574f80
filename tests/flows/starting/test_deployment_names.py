"""The names of deployments in Prefect."""

from __future__ import annotations

import httpx
import pytest

from flows.starting.deployment_names import deployment_name, deployment_path
from task_definitions import StepDefinition, TaskDefinition


def definition(label: str) -> TaskDefinition:
    return TaskDefinition(name="nightly", label=label, steps=(StepDefinition(type="x", priority=5),))


@pytest.mark.parametrize("label", ["Duplicates? Pass #2", "50% of A/B", "..", "Ä; (x) [y] & more\\"])
def test_the_path_of_a_deployment_stays_whole_in_a_url(label: str) -> None:
    path = deployment_path(definition(label))
    # Prefect's client writes the path into a URL as it is.
    url = httpx.URL(f"http://127.0.0.1/api/deployments/name/{path}")

    assert (url.path, url.query, url.fragment) == (f"/api/deployments/name/{path}", b"", "")


def test_a_name_has_no_ending_that_prefect_cuts_off() -> None:
    assert deployment_name(definition("sort.py.py")) == "sort.py-py"
