"""The forms of deployments: their fields and choices, and the values that Prefect's server accepts or refuses."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from prefect.utilities.schema_tools.validation import validate

from deployments.deploying.forms import MAX_CHOICES, NO_CHOICES, Choices, form_of
from flows import catalog
from storage import Database, ProjectsRepository
from storage.errors import UnknownProject
from storage.photos.photo_selection import PhotoSelection
from task_definitions import load_definitions

CHOICES = Choices(tenants=("anna", "user_0"), projects=("Alps (#1)", "Studio (#2)"), tags=("best",))


def form(name: str, choices: Choices = CHOICES) -> dict[str, Any]:
    return form_of(getattr(catalog, name), choices, load_definitions()[name]).model_dump(exclude_unset=True)


def is_taken(schema: dict[str, Any], values: dict[str, Any]) -> bool:
    return not validate(values, schema)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("maintenance_global", ["tenant_id", "plan", "reason", "payload"]),
        ("maintenance", ["tenant_id", "project_id", "plan", "reason", "payload"]),
        ("generate_derivatives", ["tenant_id", "select", "force", "plan", "reason", "payload"]),
        ("image_move", ["tenant_id", "select", "project_id", "force", "plan", "reason", "payload"]),
    ],
)
def test_a_form_has_what_the_scope_and_the_steps_use_and_nothing_else(name: str, fields: list[str]) -> None:
    assert list(form(name)["properties"]) == fields


def test_every_field_of_every_form_has_a_title_and_a_description() -> None:
    for name in load_definitions():
        schema = form(name)
        fields = [*schema["properties"].values()]
        if "select" in schema["properties"]:
            fields += schema["properties"]["select"]["properties"].values()
        assert [field for field in fields if not field.get("title") or not field.get("description")] == []
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("project", ["Alps (#1)", 1, "Alps", "alps folder"])
def test_a_project_may_be_given_as_listed_or_by_id_or_by_name(project: int | str) -> None:
    assert is_taken(form("maintenance"), {"tenant_id": "anna", "project_id": project})


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"project_id": None},
        {"project_id": 0},
        {"project_id": 1, "tenant_id": ""},
        {"project_id": 1, "reason": 7},
    ],
)
def test_wrong_values_are_refused_before_a_run_is_made(values: dict[str, Any]) -> None:
    assert not is_taken(form("maintenance"), values)


@pytest.mark.parametrize(
    "values",
    [
        {"select": {"missing": ["preview"]}},
        {"select": {"missing_preview": True, "failed_only": True}},
        {"select": {"every_photo": True, "failed_only": False, "tags": []}},
        {"select": PhotoSelection(every_photo=True).model_dump(mode="json")},
        {"select": {"project_ids": ["Alps (#1)"], "tags": ["best"], "taken_from": "2024-01-31"}},
        {"select": {"project_ids": [1, 2]}},
        {"select": PhotoSelection(failed_only=True).model_dump(mode="json")},
        {"select": None, "items": None, "project_id": None, "payload": None},
        {"items": [{"photo_id": 5}, {"filename": "a"}], "force": True, "reason": "new screens", "task_id": "t"},
    ],
)
def test_photos_may_be_selected_or_listed(values: dict[str, Any]) -> None:
    assert is_taken(form("generate_derivatives"), values)
    assert is_taken(form("generate_derivatives", NO_CHOICES), {**values, "select": None})


def test_an_untouched_form_sends_no_selection() -> None:
    selection = form("generate_derivatives")["properties"]["select"]["properties"]

    assert [name for name, field in selection.items() if "default" in field] == []


@pytest.mark.parametrize(
    "criterion",
    [
        {"tags": ["best"]},
        {"project_ids": [1]},
        {"missing": ["preview"]},
        {"missing_preview": True},
        {"failed_only": True},
        {"taken_from": "2024-01-31"},
    ],
)
def test_every_photo_with_another_criterion_is_refused_before_a_run_is_made(criterion: dict[str, Any]) -> None:
    assert is_taken(form("generate_derivatives"), {"select": criterion})
    assert not is_taken(form("generate_derivatives"), {"select": {"every_photo": True, **criterion}})


def test_only_a_move_asks_for_a_project_and_it_must_be_given() -> None:
    photos = {"select": {"failed_only": True}}

    assert not is_taken(form("image_move"), photos)
    assert not is_taken(form("image_move"), {**photos, "project_id": None})
    assert is_taken(form("image_move"), {**photos, "project_id": "Alps (#1)"})


def test_a_tenant_must_be_chosen_where_the_default_one_has_nothing() -> None:
    two = form("maintenance_global", Choices(tenants=("anna", "ben")))
    one = form("maintenance_global", Choices(tenants=("anna",)))

    assert not is_taken(two, {})
    assert "default" not in two["properties"]["tenant_id"]
    assert one["properties"]["tenant_id"]["default"] == "anna"
    assert is_taken(form("maintenance_global"), {})
    assert is_taken(form("maintenance_global", NO_CHOICES), {})


def test_choices_are_what_is_there_and_none_where_there_is_too_much(database: Database) -> None:
    projects = ProjectsRepository(database)
    for name in ("Studio", "Alps"):
        projects.create(project_name=name, project_folder=name, tenant_id="anna")
    gone = projects.create(project_name="Gone", project_folder="gone", tenant_id="anna")
    projects.archive(gone.id)

    choices = Choices.read(database)
    assert choices.tenants == ("anna",)
    assert choices.projects == ("Alps (#2)", "Studio (#1)")

    for number in range(MAX_CHOICES):
        projects.create(project_name="P", project_folder=f"p{number}", tenant_id="anna")
    assert Choices.read(database).projects == ()


def test_a_reference_finds_its_project_and_only_of_its_tenant(database: Database) -> None:
    projects = ProjectsRepository(database)
    alps = projects.create(project_name="Alps", project_folder="alps-2024", tenant_id="anna")
    for folder in ("one", "two"):
        projects.create(project_name="Twin", project_folder=folder, tenant_id="anna")

    for reference in (alps.id, str(alps.id), f"Alps (#{alps.id})", "Alps", "alps-2024"):
        assert projects.find(reference, tenant_id="anna") == alps.id
    for reference in ("Twin", "Nowhere", 99, f"Alps (#{alps.id + 90})", f"Twin (#{alps.id})", f"alps (#{alps.id})"):
        with pytest.raises(UnknownProject):
            projects.find(reference, tenant_id="anna")
    with pytest.raises(UnknownProject):
        projects.find("Alps", tenant_id="ben")


def test_a_selection_takes_projects_as_they_are_listed_and_only_of_its_tenant(database: Database) -> None:
    projects = ProjectsRepository(database)
    alps, studio, ben = (
        projects.create(project_name=name, project_folder=name, tenant_id=tenant).id
        for name, tenant in (("Alps (2024)", "anna"), ("Studio", "anna"), ("Ben", "ben"))
    )

    def ids(*references: int | str) -> tuple[int | str, ...]:
        selection = PhotoSelection(project_ids=references)
        with database.begin() as connection:
            return selection.checked(connection, tenant_id="anna").project_ids

    assert ids(f"Alps (2024) (#{alps})", studio, str(alps), "Studio") == (alps, studio, alps, studio)
    for reference in (f"Studio (#{alps})", ben, "Nowhere", 99):
        with pytest.raises(UnknownProject):
            ids(studio, reference)


def test_every_photo_is_a_selection_by_itself() -> None:
    with pytest.raises(ValueError, match="every_photo selects all photos; leave it out, or leave out tags"):
        PhotoSelection.model_validate({"every_photo": True, "tags": ["best"]})
