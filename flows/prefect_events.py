"""Our events as Prefect events, so that automations can act on them: `photojobs.task.*`, `.job.*`, `.items.*`."""

from __future__ import annotations

from prefect.events import emit_event

from flows.events import Event


def emit_to_prefect(event: Event) -> None:
    """Send an event to Prefect, with what it concerns as related resources; sent in the background."""
    emit_event(
        event=event.name,
        resource={"prefect.resource.id": event.subject, "prefect.resource.name": event.label},
        related=[
            {"prefect.resource.id": f"photojobs.{role}.{identifier}", "prefect.resource.role": role}
            for role, identifier in event.related.items()
        ],
        payload=event.payload,
    )
