"""Each parameter of each flow, function and command refuses values of another tenant, and nothing is written.

The tests have a case for each parameter. A new parameter makes them fail until `CASES` or `HARMLESS` names it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError

import flows
from deployments.cli.command_line import COMMANDS, run_command_line
from deployments.cli.commands.queue.jobs import JobOptions
from deployments.cli.options.task_options import TaskOptions
from flows.orchestration.compiler import compile_task
from flows.orchestration.flow_parameters import Item
from flows.process.runtime import Runtime
from storage import Database, JobsRepository, PhotosRepository, ProjectsRepository, TasksRepository
from storage.database.tables import photo_originals
from storage.photos.photo_selection import PhotoSelection
from task_definitions import PhotojobsError, load_definitions
from tests.flows.conftest import quick_settings

#: The parameters by which something of a tenant can be named, with the values of another one (anna).
CASES: dict[str, list[Any]] = {
    "project_id": [1],
    "items": [[{"photo_id": 1}]],
    "select": [PhotoSelection(project_ids=(1,))],
    "task_id": ["anna-task"],
    "undo": ["anna-task"],
    "payload": [{"undo": "anna-task"}, {"undo": 5}, {"leave_out": 5}, {"a": "x" * 2**20}],
    "tenant_id": ["../anna", "ben/../anna", ".anna", "anna\0", "", "stranger"],
}

#: Parameters that name nothing of a tenant, and why.
HARMLESS = {
    "force": "a switch",
    "plan": "a switch; a plan writes nothing",
    "thorough": "a switch",
    "reason": "text for a row of the tenant's own",
    "source": "text for a row of the tenant's own",
    "scope": "one of three words",
    "type": "the name of a definition; definitions are the operator's",
    "definition": "the operator's",
    "connection": "an open transaction: its holder has the database",
    "runtime": "the process's own",
    "from_step": "a step of the task that task_id names",
    "lane": "lanes are every tenant's",
    "save": "a path of the calling program",
    "path": "a plan that the calling program saved",
    "kind": "one of three words; see the holds",
    "name": "see the holds",
    "unit": "declares a step type",
    "takes_destination": "declares a step type",
    "takes_archived": "declares a step type",
    "summary": "declares a step type",
    "modifies_files": "declares a step type",
}

#: What a function needs besides, so that it comes as far as the parameter at hand.
NEEDED: dict[str, dict[str, Any]] = {
    "start_task": {"type": "change_commit_all", "items": [{"photo_id": 2}]},
    "run_task": {"type": "change_commit_all", "items": [{"photo_id": 2}]},
    "plan_task": {"type": "change_commit_all", "items": [{"photo_id": 2}]},
    "task_status": {"task_id": "anna-task"},
    "cancel_task": {"task_id": "anna-task"},
    "retry_task": {"task_id": "anna-task"},
    "undo_task": {"task_id": "anna-task"},
    "plan_undo": {"task_id": "anna-task"},
}

#: What takes no parameter of a tenant, or one that only restricts; and what the operator alone calls.
OF_THE_OPERATOR = {"compile_task", "step", "drain_queue", "run_saved_plan", "hold", "release"}

#: The options and arguments of commands that name something of a tenant; each is tried with `--tenant ben`.
COMMAND_CASES: dict[str, dict[str, str]] = {
    "run": {"options": "change_commit --project 1", "name": "change_commit_all --item 1"},
    "start": {"options": "change_commit --project 1", "name": "change_commit_all --item 1"},
    "plan": {"options": "change_commit --project 1", "name": "change_commit_all --in-project 1"},
    "undo": {"task": "anna-task --yes"},
    "cancel": {"task": "anna-task"},
    "retry": {"task": "anna-task"},
    "hold": {"kind": "task anna-task", "name": "tenant anna"},
    "release": {"kind": "task anna-task", "name": "lane normal"},
    "tasks show": {"task": "anna-task"},
    "jobs show": {"id": "1"},
    "jobs items": {"id": "1"},
    "jobs why": {"id": "1"},
    "jobs retry": {"ids": "1", "options": "1 --type x"},
    "jobs cancel": {"ids": "1", "options": "1 --type x"},
    "library verify": {"accept": "--accept alps/ridge.jpg"},
}

#: The fields of a selection and of an item, each with a value of another tenant (anna), or the reason why it has none.
FIELD_CASES: dict[str, dict[str, Any]] = {
    "select": {
        "project_ids": [1],
        "tags": ["anna-tag"],
        "missing": "two words",
        "failed_only": "a switch",
        "taken_from": "a day",
        "taken_to": "a day",
        "every_photo": "a switch",
    },
    "items": {"photo_id": 1, "filename": "a name in the project that is checked"},
}

#: The options of a task, each with the option of `--tenant ben` that names something of anna's, or the reason.
TASK_OPTION_CASES: dict[str, str] = {
    "tenant": "--tenant ../anna",
    "project": "--project 1",
    "item": "--item 1",
    "items_file": "--items-file items-of-anna",
    "in_project": "--in-project 1",
    "tag": "--tag anna-tag",
    "payload": '--item 2 --payload {"leave_out":5}',
}
HARMLESS_TASK_OPTIONS = {"all", "from_", "to", "missing", "failed_only", "scope"}

#: The options by which `jobs retry` and `jobs cancel` select, likewise.
JOB_OPTION_CASES: dict[str, str] = {"project": "--project 1", "task": "--task anna-task"}
HARMLESS_JOB_OPTIONS = {"status", "type", "tenant"}

#: Commands without `--tenant`, or whose `--tenant` is a filter: the operator's.
COMMANDS_OF_THE_OPERATOR = {
    *("init", "doctor", "demo", "up", "serve", "worker", "deploy", "status", "report", "completion"),
    *("tasks list", "jobs list", "library list", "library add-project", "lanes list", "lanes set"),
    *("definitions new", "definitions graph", "definitions list", "definitions show", "definitions lint"),
    *("definitions diff", "definitions schema", "steps list", "steps show"),
    *("db upgrade", "db check", "db backup", "db restore", "db downgrade", "db prune"),
}

#: Options of `COMMAND_CASES` that name nothing of a tenant.
HARMLESS_OPTIONS = {
    *("json", "tenant", "reason", "from_", "yes", "dry_run", "status", "limit", "save", "thorough", "plan")
}


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A library of `anna` and `ben`, which no test changes; anna has a task that has ended, with a job."""
    place = tmp_path_factory.mktemp("tenants")
    settings = quick_settings(place)
    database = Database(place / "photojobs.db")
    database.migrate()
    for tenant, folder in (("anna", "alps"), ("ben", "harbour")):
        project = ProjectsRepository(database).create(project_name="Alps", project_folder=folder, tenant_id=tenant)
        PhotosRepository(database).create_many([{"project_id": project.id, "filename": "ridge"}])
        (settings.library_root / tenant / folder).mkdir(parents=True)
    with Runtime(database, settings=settings) as opened:
        with opened.as_current():
            flows.start_task(type="change_commit_all", tenant_id="anna", items=[{"photo_id": 1}], task_id="anna-task")
        TasksRepository(database).cancel("anna-task")
        file = settings.library_root / "anna" / "alps" / "ridge.jpg"
        file.write_bytes(b"corrupt")
        corrupt = {
            "photo_id": 1,
            "name": file.name,
            "kind": "jpg",
            "size_bytes": 7,
            "mtime_ns": 1,
            "content_hash": "another",
            "corrupt_since": database.clock(),
        }
        with database.begin() as connection:
            connection.execute(photo_originals.insert().values(**corrupt))
        yield opened


@pytest.fixture
def runtime(tenants: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """The runtime of `tenants` as the current one; the environment names its database and library."""
    monkeypatch.setenv("PHOTOJOBS_DATABASE_URL", f"sqlite:///{tenants.database.path}")
    monkeypatch.setenv("PHOTOJOBS_LIBRARY_ROOT", str(tenants.library.root))
    monkeypatch.chdir(tmp_path)
    with tenants.as_current():
        yield tenants


def everything(runtime: Runtime) -> Any:
    tables = (
        "tasks",
        "jobs",
        "job_items",
        "task_items",
        "holds",
        "projects",
        "photos",
        "photo_originals",
        "file_journal",
    )
    with runtime.database.connect() as connection:
        rows = {table: connection.exec_driver_sql(f"SELECT * FROM {table}").fetchall() for table in tables}
    return rows, sorted(runtime.library.root.rglob("*"))


def functions() -> dict[str, Callable[..., Any]]:
    found = {name: getattr(flows, name) for name in flows.__all__}
    # Those for coroutines are the same functions in a thread.
    return {
        name: each
        for name, each in found.items()
        if inspect.isfunction(each) and not (name.startswith("a") and name[1:] in found)
    }


FLOWS = {name: compile_task(definition) for name, definition in load_definitions().items()}
FLOW_NEEDS = {"project_id": 2, "items": [{"photo_id": 2}], "tenant_id": "ben"}


def cases_of(names: dict[str, list[str]]) -> list[tuple[str, str, Any]]:
    return [
        (name, parameter, value)
        for name, parameters in names.items()
        for parameter in parameters
        for value in CASES.get(parameter, [])
        if not is_without_meaning(name, parameter, value)
    ]


def is_without_meaning(name: str, parameter: str, value: Any) -> bool:
    if parameter == "payload":
        # Only the definition `undo` reads the key.
        return "undo" in value and name in FLOWS and name != "undo"
    # All flows pass the same gate; for these two functions no tenant is the operator.
    return parameter == "tenant_id" and (
        (name in FLOWS and value != "../anna") or (name in ("undo_task", "plan_undo") and value == "")
    )


def is_case(value: Any) -> bool:
    """Whether it is something of another tenant, and not the reason why there is none."""
    return not isinstance(value, str) or value.startswith("anna-")


def parameters_of(callables: dict[str, Any]) -> dict[str, list[str]]:
    return {name: list(inspect.signature(each).parameters) for name, each in callables.items()}


FUNCTION_PARAMETERS = parameters_of({n: f for n, f in functions().items() if n not in OF_THE_OPERATOR})
FLOW_PARAMETERS = parameters_of({name: flow.fn for name, flow in FLOWS.items()})


def commands() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}

    def walk(app: Any, name: str) -> None:
        if app.default_command is not None:
            found[name] = list(inspect.signature(app.default_command).parameters)
        for word in app:
            if not word.startswith("-"):
                walk(app[word], f"{name} {word}")

    for group in COMMANDS.values():
        for name, place, _ in group:
            module, attribute = place.split(":")
            walk(getattr(import_module(f"deployments.cli.commands.{module}"), attribute), name)
    return found


def test_every_parameter_of_every_flow_function_and_command_has_a_case_or_a_reason() -> None:
    known = set(CASES) | set(HARMLESS)
    for name, parameters in (parameters_of(functions()) | FLOW_PARAMETERS).items():
        assert set(parameters) <= known, f"{name}: give its new parameters cases, or say why they are harmless"
    assert set(functions()) >= OF_THE_OPERATOR
    of_commands = commands()
    assert set(of_commands) == set(COMMAND_CASES) | COMMANDS_OF_THE_OPERATOR
    for name, cases in COMMAND_CASES.items():
        assert set(of_commands[name]) <= set(cases) | HARMLESS_OPTIONS, f"{name}: give its new options cases"


def test_every_field_of_a_selection_an_item_and_the_options_of_a_task_has_a_case_or_a_reason() -> None:
    assert set(PhotoSelection.model_fields) == set(FIELD_CASES["select"])
    assert set(Item.model_fields) == set(FIELD_CASES["items"])
    options = {field.name for field in fields(TaskOptions)}
    assert options == set(TASK_OPTION_CASES) | HARMLESS_TASK_OPTIONS
    options = {field.name for field in fields(JobOptions)}
    assert options == set(JOB_OPTION_CASES) | HARMLESS_JOB_OPTIONS


@pytest.mark.parametrize(
    ("parameter", "field"),
    [
        (parameter, field)
        for parameter, cases in FIELD_CASES.items()
        for field, value in cases.items()
        if is_case(value)
    ],
)
def test_a_field_refuses_what_is_another_tenants(runtime: Runtime, parameter: str, field: str) -> None:
    value = FIELD_CASES[parameter][field]
    given = PhotoSelection(**{field: value}) if parameter == "select" else [{field: value}]
    before = everything(runtime)

    with pytest.raises(PhotojobsError):
        flows.start_task(type="change_commit_all", tenant_id="ben", **{parameter: given})

    assert everything(runtime) == before


@pytest.mark.parametrize("option", TASK_OPTION_CASES)
def test_an_option_of_a_task_refuses_what_is_another_tenants(runtime: Runtime, tmp_path: Path, option: str) -> None:
    (tmp_path / "items-of-anna").write_text("1\n")
    before = everything(runtime)
    words = TASK_OPTION_CASES[option].split(maxsplit=1 if option != "payload" else 3)
    name = "change_commit" if option == "project" else "change_commit_all"
    chosen = ["--item", "2"] if option == "tenant" else []
    tenant = [] if option == "tenant" else ["--tenant", "ben"]

    assert run_command_line(["start", name, *words, *chosen, *tenant]) == 2

    assert everything(runtime) == before


@pytest.mark.parametrize("option", JOB_OPTION_CASES)
def test_an_option_that_selects_jobs_selects_nothing_of_another_tenants(runtime: Runtime, option: str) -> None:
    before = everything(runtime)

    # Without `--tenant` it would queue anna's canceled job again.
    assert run_command_line(["jobs", "retry", *JOB_OPTION_CASES[option].split(), "--tenant", "ben"]) in (0, 2)

    assert everything(runtime) == before


@pytest.mark.parametrize(("name", "parameter", "value"), cases_of(FUNCTION_PARAMETERS), ids=lambda v: str(v)[:30])
def test_a_function_refuses_what_is_another_tenants(runtime: Runtime, name: str, parameter: str, value: Any) -> None:
    before = everything(runtime)
    arguments = {"tenant_id": "ben", **NEEDED.get(name, {}), parameter: value}
    if parameter == "select":
        del arguments["items"]
    if parameter == "payload" and "undo" in value:
        arguments = {"tenant_id": "ben", "type": "undo", "payload": value}

    with pytest.raises(PhotojobsError):
        functions()[name](**arguments)

    assert everything(runtime) == before


@pytest.mark.parametrize(("name", "parameter", "value"), cases_of(FLOW_PARAMETERS), ids=lambda v: str(v)[:30])
def test_a_flow_refuses_what_is_another_tenants(runtime: Runtime, name: str, parameter: str, value: Any) -> None:
    flow = FLOWS[name]
    accepted = set(FLOW_PARAMETERS[name])
    before = everything(runtime)
    arguments = {key: each for key, each in FLOW_NEEDS.items() if key in accepted} | {parameter: value}
    if "items" in arguments and name != "image_move" and parameter != "project_id":
        arguments.pop("project_id", None)
    if parameter == "select":
        del arguments["items"]

    # The body itself: a flow run would add nothing but a server.
    state = None
    with suppress(PhotojobsError, ParameterTypeError):
        state = flow.fn(**flow.validate_parameters(arguments))
    assert state is None or state.is_failed()
    assert everything(runtime) == before


@pytest.mark.parametrize(
    ("name", "line"), [(name, line) for name, cases in COMMAND_CASES.items() for line in cases.values()]
)
def test_a_command_with_a_tenant_refuses_what_is_another_tenants(runtime: Runtime, name: str, line: str) -> None:
    before = everything(runtime)

    assert run_command_line([*name.split(), *line.split(), "--tenant", "ben"]) == 2

    assert everything(runtime) == before


@pytest.mark.parametrize(("kind", "name"), [("task", "anna-task"), ("tenant", "anna"), ("lane", "normal")])
def test_a_tenant_holds_and_releases_only_what_is_its_own(runtime: Runtime, kind: str, name: str) -> None:
    before = everything(runtime)
    for call in (flows.hold, flows.release):
        with pytest.raises(PhotojobsError):
            call(kind, name, tenant_id="ben")
    assert everything(runtime) == before
    flows.hold("tenant", "ben", tenant_id="ben")
    assert flows.release("tenant", "ben", tenant_id="ben")


@pytest.mark.parametrize(
    "given",
    [
        {"project_id": 1},
        {"items": [{"photo_id": 1}]},
        {"items": [{"photo_id": 2}] * 2000 + [{"photo_id": 1}], "auto_chunk": True},
        {"tenant_id": "../anna"},
        {"tenant_id": "."},
    ],
    ids=["project", "item", "item of a second chunk", "a path", "a dot"],
)
def test_a_standalone_job_takes_nothing_of_another_tenant(runtime: Runtime, given: dict[str, Any]) -> None:
    before = everything(runtime)
    jobs = JobsRepository(runtime.database)
    with pytest.raises(PhotojobsError):
        (jobs.enqueue_with_items if "items" in given else jobs.enqueue)(**{"tenant_id": "ben", "type": "x"} | given)
    assert everything(runtime) == before
