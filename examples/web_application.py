"""A web application that starts tasks and lets its users follow them: `uvicorn examples.web_application:app`.

The application decides which tenant a request belongs to. This example reads the tenant from a header; a real
application takes it from the session of its user. Every call names the tenant, so a user sees and changes only tasks of
that tenant. docs/how-to/web-application.md says why.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from flows import Runtime, acancel_task, aretry_task, astart_task, atask_status, start_task
from storage import ProjectsRepository, TaskSummary
from storage.errors import ConstraintViolated, DatabaseFault, InvalidValue, TaskConflict, UnknownProject, UnknownTask
from task_definitions import PhotojobsError

logger = logging.getLogger(__name__)
app = FastAPI(title="Photographs")

#: The status and the text that users get for each kind of error. The messages of photojobs are for operators: they name
#: paths, databases and commands.
FOR_USERS: dict[type[PhotojobsError], tuple[int, str]] = {
    UnknownTask: (404, "There is no such task."),
    UnknownProject: (404, "There is no such project."),
    ConstraintViolated: (409, "The same project or task exists already."),
    TaskConflict: (409, "The task is in a state that does not allow this."),
    InvalidValue: (422, "A value of the request is not allowed."),
    DatabaseFault: (503, "The service is not available at the moment. Please try again."),
}


def signed_in(x_tenant: Annotated[str, Header()]) -> str:
    """Return the tenant of the request."""
    return x_tenant


Tenant = Annotated[str, Depends(signed_in)]


class Upload(BaseModel):
    """The request for a new project, whose folder with photographs is already in the library."""

    name: str = Field(min_length=1)
    folder: str = Field(min_length=1)


class Progress(BaseModel):
    """How far a task is, as users see it."""

    task_id: str
    status: str
    message: str
    jobs: dict[str, int]

    @classmethod
    def of(cls, summary: TaskSummary) -> Progress:
        """Return the part of a summary that users may see."""
        return cls(task_id=summary.task.id, status=summary.task.status, message=summary.message, jobs=summary.jobs)


@app.post("/projects", status_code=202)
def add_project(upload: Upload, tenant: Tenant) -> dict[str, Any]:
    """Add a project and start its upkeep in one transaction: both are written, or neither."""
    with Runtime.current().database.begin() as connection:
        project = ProjectsRepository(connection).create(
            project_name=upload.name, project_folder=upload.folder, tenant_id=tenant
        )
        task = start_task(type="maintenance", tenant_id=tenant, project_id=project.id, connection=connection)
    return {"project_id": project.id, "task_id": task.task_id}


@app.post("/projects/{project_id}/upkeep", status_code=202)
async def start_upkeep(project_id: int, tenant: Tenant) -> dict[str, Any]:
    """Start the upkeep of a project from a coroutine; a project of another tenant is answered with 404."""
    task = await astart_task(type="maintenance", tenant_id=tenant, project_id=project_id)
    return {"task_id": task.task_id, "flow_run_id": task.flow_run_id}


@app.get("/tasks/{task_id}")
async def follow(task_id: str, tenant: Tenant) -> Progress:
    """Return how far a task is."""
    return Progress.of(await atask_status(task_id, tenant_id=tenant))


@app.post("/tasks/{task_id}/cancel")
async def cancel(task_id: str, tenant: Tenant) -> Progress:
    """Cancel a task; finished work is kept."""
    return Progress.of(await acancel_task(task_id, tenant_id=tenant, reason="canceled by its user"))


@app.post("/tasks/{task_id}/retry", status_code=202)
async def retry(task_id: str, tenant: Tenant) -> Progress:
    """Run the failed and canceled jobs of a task again."""
    return Progress.of(await aretry_task(task_id, tenant_id=tenant))


@app.exception_handler(PhotojobsError)
async def explain(_: Request, error: PhotojobsError) -> JSONResponse:
    """Answer with a sentence for users; the error itself goes to the log."""
    known = (FOR_USERS[kind] for kind in type(error).__mro__ if kind in FOR_USERS)
    status, sentence = next(known, (500, "Something went wrong."))
    logger.log(logging.ERROR if status >= 500 else logging.INFO, "request refused: %s", error, exc_info=status >= 500)
    return JSONResponse({"detail": sentence}, status_code=status)
