"""The options of `photojobs run`, `start` and `plan`; checks them, and builds the request for a task from them."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import ValidationError

from deployments.cli.options.errors import BadInput
from deployments.cli.options.parameters import Flag, WholeNumber, refuse_beside
from flows.starting.new_task import new_task
from storage.lifecycle.job_rows import MAX_PAYLOAD_BYTES, MAX_PAYLOAD_DEPTH, checked_payload
from storage.photos.photo_selection import PhotoSelection
from storage.photos.project_labels import read_reference
from storage.photos.projects import ProjectsRepository
from storage.queue.new_tasks import NewTask
from storage.settings import Settings
from task_definitions import MissingProject, Scope, TaskDefinition, UnexpectedProject, detect_scope, load_definitions
from task_definitions.foreign_documents import Bounds, UnreadableDocument, parse_json, read_foreign_file
from task_definitions.step_types import takes_destination
from task_definitions.wording import shown

_PAYLOAD_BOUNDS = Bounds(max_bytes=MAX_PAYLOAD_BYTES, max_depth=MAX_PAYLOAD_DEPTH)
#: The bounds of a file with ids of photos; each photo needs about twenty bytes.
_ITEMS_BOUNDS = Bounds(max_bytes=64 * 1024 * 1024)

_Many = Parameter(consume_multiple=True, negative="")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """The options that select the tenant, the project, the photos, the payload and the scope of a run."""

    tenant: str | None = None
    "The tenant whose photos are used; by default the setting `tenant`."

    project: str | None = None
    "The project to work on, by its name or id; in a move, the destination."

    item: Annotated[list[WholeNumber] | None, _Many] = None
    "Ids of photos."

    items_file: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None
    "A file with one photo id on each line, or with a JSON list; - reads the standard input."

    all: Flag = False
    "All photos of the tenant or of the project, or all photos that the options below select."

    in_project: Annotated[list[str] | None, _Many] = None
    "Photos of these projects, by their names or ids."

    tag: Annotated[list[str] | None, _Many] = None
    "Photos with one of these tags."

    from_: Annotated[date | None, Parameter(name="--from")] = None
    "Photos taken on this day or later, as in 2025-01-31."

    to: date | None = None
    "Photos taken on this day or earlier."

    missing: Annotated[list[Literal["thumbnail", "preview"]] | None, _Many] = None
    "Photos without a thumbnail, or without a preview."

    failed_only: Flag = False
    "Photos whose thumbnail or preview failed."

    payload: str | None = None
    "A JSON object that every job gets."

    scope: str | None = None
    "The scope of the run, for definitions that do not set it: project, photo_set or global."


@dataclass(frozen=True, kw_only=True)
class TaskRequest:
    """A request to run a definition, with checked options. The start checks whether projects and photos exist."""

    definition: TaskDefinition
    new: NewTask

    @property
    def needs_rows(self) -> bool:
        """Whether the run needs existing projects or photos."""
        return self.new.scope is not Scope.GLOBAL

    def arguments(self) -> dict[str, Any]:
        """Return the request as arguments for `flows.start_task` and `flows.run_task`."""
        return {
            "type": self.definition,
            "tenant_id": self.new.tenant_id,
            "scope": str(self.new.scope),
            "project_id": self.new.project_id,
            "items": self.new.items,
            "select": self.new.selection,
            "payload": self.new.payload,
            "task_id": self.new.id,
        }


def read_request(name: str, options: TaskOptions, settings: Settings) -> TaskRequest:
    """Check the options of a run of the definition called `name`; return the request.

    Raises:
        UnknownDefinition: no definition has this name.
        UnknownProject: the tenant has no project with a given name.
        ScopeError: the scope does not fit the definition.
        BadInput: an option cannot be used, is missing, or does not fit the definition.
        InvalidValue: the payload is not valid, or cannot be stored.
        StorageError: a project is given by its name, and the database cannot be read.
        MissingHandler: a step has no handler in this installation.
    """
    definition = load_definitions(settings.definitions, strict=False).get_or_raise(name)
    tenant_id = settings.tenant if options.tenant is None else options.tenant
    named = [*([] if options.project is None else [options.project]), *(options.in_project or ())]
    ids = dict(zip(named, _project_ids(named, tenant_id, settings), strict=True))
    project_id = None if options.project is None else ids[options.project]
    try:
        scope = detect_scope(scope=options.scope, project_id=project_id, definition_scope=definition.scope)
    except MissingProject:
        raise BadInput(
            f"{name} works on one project. Give the project's name or id with --project; `photojobs library list` "
            "lists the projects."
        ) from None
    except UnexpectedProject:
        raise BadInput(f"{name} works on all projects of a tenant; leave --project out.") from None
    payload = _payload(options.payload)
    in_project = [ids[project] for project in options.in_project or ()]
    is_move = takes_destination(definition)
    if project_id is not None and not is_move:
        refuse_beside("--project", {"--in-project": options.in_project})
        in_project = [project_id]
    items, selection = _items(options), _selection(options, in_project)
    if is_move and project_id is None:
        raise BadInput(f"{name} moves photos. Give the project that receives them with --project.")
    if items is not None and selection is not None:
        raise BadInput(
            f"{name}: give the photos with --item or --items-file, or select them with other options, but not both."
        )
    if scope is Scope.PHOTO_SET and items is None and selection is None:
        projects = "--in-project, " if project_id is None or is_move else ""
        raise BadInput(
            f"{name}: which photos? Give --all, --item or --items-file, or select photos with {projects}--tag, "
            "--from, --to, --missing or --failed-only."
        )
    if scope is not Scope.PHOTO_SET and (items is not None or selection is not None):
        raise BadInput(
            f'{name} runs with the scope "{scope}", which takes no photos; leave out the options that select photos.'
        )
    new = new_task(
        definition,
        task_id=str(uuid.uuid4()),
        tenant_id=tenant_id,
        scope=options.scope,
        # With a selection, the project is one of the criteria, unless it is the destination of the photos.
        project_id=None if selection is not None and not is_move else project_id,
        items=items,
        selection=selection,
        payload=payload,
    )
    return TaskRequest(definition=definition, new=new)


def _payload(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        payload = parse_json(text, source="--payload", bounds=_PAYLOAD_BOUNDS)
    except UnreadableDocument as error:
        raise BadInput(f"{error} Give a JSON object, as in '{{\"force\": true}}'.") from None
    if not isinstance(payload, dict):
        raise BadInput(
            f"--payload: {shown(payload)} is not a JSON object. Give an object, as in '{{\"force\": true}}'."
        )
    return checked_payload(payload)


def _project_ids(references: Sequence[str], tenant_id: str, settings: Settings) -> tuple[int, ...]:
    ids = [
        project_id for name, project_id in map(read_reference, references) if name is None and project_id is not None
    ]
    if len(ids) == len(references):
        return tuple(ids)
    from deployments.cli.options.opening import opened_database

    with opened_database(settings=settings) as database:
        return ProjectsRepository(database).find_all(references, tenant_id=tenant_id)


def _selection(options: TaskOptions, project_ids: Sequence[int]) -> PhotoSelection | None:
    criteria: dict[str, Any] = {
        "tags": options.tag,
        "taken_from": options.from_,
        "taken_to": options.to,
        "missing": options.missing,
        "failed_only": options.failed_only,
    }
    given = {name: value for name, value in criteria.items() if value}
    if not (given or options.in_project or options.all):
        return None
    if project_ids:
        given["project_ids"] = list(project_ids)
    try:
        return PhotoSelection(**given)
    except ValidationError as error:
        raise BadInput("; ".join(_sentence(problem["msg"]) for problem in error.errors())) from None


def _sentence(message: str) -> str:
    # The options --from and --to have other names in the model.
    return message.removeprefix("Value error, ").replace("taken_from", "--from").replace("taken_to", "--to")


def _items(options: TaskOptions) -> list[dict[str, Any]] | None:
    if options.item is None and options.items_file is None:
        return None
    items = [{"photo_id": photo_id} for photo_id in options.item or ()]
    if options.items_file is not None:
        items += list(_items_of_file(options.items_file))
    if not items:
        raise BadInput(f"--items-file: {options.items_file} names no photo. Give the id of a photo on each line.")
    return items


def _items_of_file(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = _text_of_items(path)
    except UnreadableDocument as error:
        raise BadInput(f"--items-file: {error}") from None
    except UnicodeDecodeError:
        raise BadInput(f"--items-file: {path} is not UTF-8 text. Give the id of a photo on each line.") from None
    if text.lstrip().startswith("["):
        yield from _items_of_json(text, path)
        return
    for number, line in enumerate(text.splitlines(), start=1):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        if not (word.isascii() and word.isdigit() and len(word) < 20):
            raise BadInput(
                f'--items-file: {path}: line {number}: "{word[:40]}" is not the id of a photo. Give a whole number.'
            )
        yield {"photo_id": int(word)}


def _text_of_items(path: Path) -> str:
    most = _ITEMS_BOUNDS.max_bytes
    content = sys.stdin.buffer.read(most + 1) if str(path) == "-" else read_foreign_file(path, max_bytes=most)
    if len(content) > most:
        problem = f"is larger than {most} bytes. Split it, and start a task for each part."
        raise UnreadableDocument(problem, source="standard input")
    return content.decode("utf-8-sig")


def _items_of_json(text: str, path: Path) -> Iterator[dict[str, Any]]:
    try:
        entries = parse_json(text, source=str(path), bounds=_ITEMS_BOUNDS, remedy="Correct it.")
    except UnreadableDocument as error:
        raise BadInput(f"--items-file: {error}") from None
    for index, entry in enumerate(entries):
        if isinstance(entry, int) and not isinstance(entry, bool):
            yield {"photo_id": entry}
        elif isinstance(entry, Mapping):
            yield dict(entry)
        else:
            raise BadInput(
                f"--items-file: {path}: entry [{index}] is {shown(entry)} and not a photo. Give an id, or an object "
                'like {"photo_id": 1}.'
            )
