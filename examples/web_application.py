"""A web application that starts tasks and lets its users follow them: `uvicorn examples.web_application:app`.

The tenant is whoever the application has let in; here a header stands for that. Every call names the tenant, so nobody
sees or steers the tasks of others.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from flows import Runtime, acancel_task, aretry_task, astart_task, atask_status, start_task
from storage import ProjectsRepository, TaskSummary
from storage.errors import TaskConflict, UnknownTask
from task_definitions import PhotojobsError

app = FastAPI(title="Photographs")


def signed_in(x_tenant: Annotated[str, Header()]) -> str:
    """The tenant of the request."""
    return x_tenant


Tenant = Annotated[str, Depends(signed_in)]


class Upload(BaseModel):
    """A new project with its photographs, which lie in its folder already."""

    name: str = Field(min_length=1)
    folder: str = Field(min_length=1)


class Progress(BaseModel):
    """How far a task is."""

    task_id: str
    status: str
    message: str
    jobs: dict[str, int]

    @classmethod
    def of(cls, summary: TaskSummary) -> Progress:
        """What users see of a task."""
        return cls(task_id=summary.task.id, status=summary.task.status, message=summary.message, jobs=summary.jobs)


@app.post("/projects", status_code=202)
def add_project(upload: Upload, tenant: Tenant) -> dict[str, Any]:
    """Write a project and start its upkeep in one transaction: either both are there, or neither."""
    with Runtime.current().database.begin() as connection:
        project = ProjectsRepository(connection).create(
            project_name=upload.name, project_folder=upload.folder, tenant_id=tenant
        )
        task = start_task(type="maintenance", tenant_id=tenant, project_id=project.id, connection=connection)
    return {"project_id": project.id, "task_id": task.task_id}


@app.post("/projects/{project_id}/upkeep", status_code=202)
async def start_upkeep(project_id: int, tenant: Tenant) -> dict[str, Any]:
    """Start a task from a coroutine; another tenant's project is unknown."""
    task = await astart_task(type="maintenance", tenant_id=tenant, project_id=project_id)
    return {"task_id": task.task_id, "flow_run_id": task.flow_run_id}


@app.get("/tasks/{task_id}")
async def follow(task_id: str, tenant: Tenant) -> Progress:
    """Where a task stands."""
    return Progress.of(await atask_status(task_id, tenant_id=tenant))


@app.post("/tasks/{task_id}/cancel")
async def cancel(task_id: str, tenant: Tenant) -> Progress:
    """End a task; what is done stays done."""
    return Progress.of(await acancel_task(task_id, tenant_id=tenant, reason="canceled by its user"))


@app.post("/tasks/{task_id}/retry", status_code=202)
async def retry(task_id: str, tenant: Tenant) -> Progress:
    """Run again what failed or was canceled."""
    return Progress.of(await aretry_task(task_id, tenant_id=tenant))


@app.exception_handler(PhotojobsError)
async def explain(_: Request, error: PhotojobsError) -> JSONResponse:
    """Errors say what was wrong and what to do; whether that is for the user to read is yours to decide."""
    status = 404 if isinstance(error, UnknownTask) else 409 if isinstance(error, TaskConflict) else 422
    return JSONResponse({"detail": str(error)}, status_code=status)
