"""Reads definitions back from the server: the description of a deployment ends with its definition as YAML."""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse

from flows.starting.deployment_names import DRAIN_PATH, TAG
from task_definitions import DefinitionErrors, TaskDefinition, read_pinned_definition
from task_definitions.foreign_documents import UnreadableDocument, parse_yaml

#: How many deployments are read in one request: the server's limit.
_PAGE = 200

_DECLARATION = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedDefinitions:
    """The definitions that the deployments of a server contain.

    Attributes:
        definitions: the definitions by name, without those whose deployment is paused.
        unreadable: paths of deployments whose description contains no readable definition, because a user edited the
            description or an older version wrote it.
    """

    definitions: dict[str, TaskDefinition]
    unreadable: tuple[str, ...]


def declaration(definition: TaskDefinition) -> str:
    """Return a definition as the YAML of its file in a Markdown block, which ends a deployment's description."""
    body = definition.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    text = yaml.safe_dump({definition.name: body}, sort_keys=False, allow_unicode=True, width=100)
    return f"```yaml\n{text}```"


def declared_in(description: str | None) -> TaskDefinition | None:
    """Return the definition at the end of a deployment's description; None if there is none, or it cannot be read."""
    blocks = _DECLARATION.findall(description or "")
    try:
        return read_pinned_definition(parse_yaml(blocks[-1], source="the description")) if blocks else None
    except (UnreadableDocument, DefinitionErrors):
        return None


def our_deployments(client: SyncPrefectClient) -> dict[str, DeploymentResponse]:
    """Return every deployment with the tag of photojobs, by its path `<flow>/<deployment>`."""
    flows = {}
    found: dict[str, DeploymentResponse] = {}
    for deployment in all_deployments(client, DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))):
        if deployment.flow_id not in flows:
            flows[deployment.flow_id] = client.read_flow(deployment.flow_id).name
        found[f"{flows[deployment.flow_id]}/{deployment.name}"] = deployment
    return found


def all_deployments(client: SyncPrefectClient, wanted: DeploymentFilter) -> list[DeploymentResponse]:
    """Return all deployments that a filter selects; Prefect's server returns one page at a time."""
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(deployment_filter=wanted, limit=_PAGE, offset=len(found)):
        found += page
        if len(page) < _PAGE:
            break
    return found


def deployed_definitions(client: SyncPrefectClient) -> DeployedDefinitions:
    """Return the definitions of a server, as they were when they were served or deployed."""
    known: dict[str, TaskDefinition] = {}
    unreadable = []
    for path, deployment in our_deployments(client).items():
        if path == DRAIN_PATH:
            continue
        definition = declared_in(deployment.description)
        if definition is not None and not deployment.paused:
            known[definition.name] = definition
        elif definition is None:
            unreadable.append(path)
    return DeployedDefinitions(definitions=known, unreadable=tuple(sorted(unreadable)))
