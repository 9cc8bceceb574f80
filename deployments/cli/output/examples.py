"""Example command lines for the help page of every command; the tests run them.

Examples are grouped by command: "" is the root, "jobs" is a group, "jobs list" is a command in that group.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Example(NamedTuple):
    """A command line and its purpose."""

    says: str
    line: str


def _examples(*pairs: tuple[str, str]) -> tuple[Example, ...]:
    return tuple(Example(says, line) for says, line in pairs)


EXAMPLES: Mapping[str, tuple[Example, ...]] = {
    "": _examples(
        ("Try photojobs on a library that the demo creates", "photojobs demo"),
        ("Set up your own photographs; the command asks before it writes", "photojobs init ~/Pictures"),
        ("See what the nightly maintenance would do; nothing is changed", "photojobs plan maintenance_global"),
        ("Run the nightly maintenance", "photojobs run maintenance_global"),
        ("Show what is running, what is waiting and why, and what failed", "photojobs status"),
    ),
    "init": _examples(
        ("Look at the folder; the command asks before it writes", "photojobs init ~/Pictures"),
        ("See what would be written", "photojobs init ~/Pictures --dry-run"),
        ("Ask nothing, and add the photographs too", "photojobs init ~/Pictures --yes --discover"),
        ("Write the settings to another folder", "photojobs init ~/Pictures --into ~/photojobs --yes"),
    ),
    "doctor": _examples(
        ("Check everything", "photojobs doctor"),
        (
            "Print problems and warnings as JSON",
            "photojobs doctor --json | jq '.findings[] | select(.standing != \"fine\")'",
        ),
    ),
    "demo": _examples(
        ("Run the demo in the folder photojobs-demo (two minutes)", "photojobs demo"),
        ("Run a short demo, and keep Prefect's server running", "photojobs demo --photos 200 --keep"),
    ),
    "plan": _examples(
        ("Show what the maintenance of all projects would do", "photojobs plan maintenance_global"),
        ("Save the plan, to carry it out later", "photojobs plan change_commit --project 1 --save commit.plan"),
        ("Print JSON", "photojobs plan maintenance --project 1 --json | jq .counts"),
    ),
    "run": _examples(
        ("Maintain one project", "photojobs run maintenance --project 1"),
        ("Create the missing previews", "photojobs run process_photos --all --missing preview"),
        ("Move three photos into project 2", "photojobs run image_move --project 2 --item 1 2 3"),
        ("Carry out a saved plan; changes to files that changed since are refused", "photojobs run --plan commit.plan"),
    ),
    "start": _examples(
        ("Maintain one project", "photojobs start maintenance --project 1"),
        ("Process the photos of last summer", "photojobs start process_photos --from 2025-06-01 --to 2025-08-31"),
    ),
    "undo": _examples(
        ("See what would be restored, and what cannot be", "photojobs undo TASK --dry-run"),
        ("Undo without a confirmation", "photojobs undo TASK --yes"),
    ),
    "cancel": _examples(("Cancel a task, and give the reason", 'photojobs cancel TASK --reason "wrong project"')),
    "retry": _examples(
        ("Run the failed and canceled jobs again", "photojobs retry TASK"),
        ("Run a step and all steps after it again", "photojobs retry TASK --from manifest_check"),
    ),
    "hold": _examples(
        ("Hold all jobs of a lane", 'photojobs hold lane normal --reason "backup until six"'),
        ("Hold all jobs of a tenant", "photojobs hold tenant anna"),
    ),
    "release": _examples(("Let the jobs of the lane start again", "photojobs release lane normal")),
    "up": _examples(
        ("Run everything on this machine", "photojobs up"),
        ("Use another port for Prefect's pages", "photojobs up --port 4201"),
    ),
    "serve": _examples(
        ("Serve to a running Prefect server", "PREFECT_API_URL=http://prefect:4200/api photojobs serve")
    ),
    "worker": _examples(
        ("Run all waiting jobs, and end", "photojobs worker --once"),
        ("Run only urgent jobs, two at the same time", "photojobs worker --lane priority --concurrency 2"),
    ),
    "deploy": _examples(
        ("Create the pool too", "photojobs deploy --pool photos --create-pool process"),
        ("See what would be done", "photojobs deploy --pool photos --dry-run"),
        ("Write a file for `prefect deploy --all`", "photojobs deploy --pool photos --write-prefect-yaml prefect.yaml"),
    ),
    "status": _examples(
        ("Show the status once", "photojobs status"),
        ("Update the display until Ctrl-C", "photojobs status --watch"),
        ("Show more rows, of one tenant only", "photojobs status --tenant anna --limit 20"),
        ("Print JSON", "photojobs status --json | jq .waiting"),
    ),
    "tasks": _examples(
        ("List the newest tasks", "photojobs tasks list"),
        ("Show the progress of a task", "photojobs tasks show TASK"),
    ),
    "tasks list": _examples(
        ("List failed tasks", "photojobs tasks list --status failed"),
        ("Print JSON", "photojobs tasks list --type maintenance --json | jq '.[].id'"),
    ),
    "tasks show": _examples(("Show the progress and the results of a task", "photojobs tasks show TASK")),
    "completion": _examples(
        ("Use it in this shell only", "source <(photojobs completion bash)"),
        ("Install it", "photojobs completion zsh --install"),
        ("Write the script to a file", "photojobs completion fish > ~/.config/fish/completions/photojobs.fish"),
    ),
    "jobs": _examples(
        ("List failed jobs", "photojobs jobs list --status failed"),
        ("Show why a job does not start", "photojobs jobs why 1"),
    ),
    "report": _examples(
        ("Report on the newest task", "photojobs report"),
        (
            "Report on another task, with a larger contact sheet",
            "photojobs report TASK --photos 120 --output nightly.html",
        ),
        ("Print JSON", "photojobs report --json | jq .failures"),
    ),
    "jobs list": _examples(
        ("List failed jobs, the newest first", "photojobs jobs list --status failed"),
        ("List the jobs of a task", "photojobs jobs list --task TASK"),
        ("Print JSON", "photojobs jobs list --type metadata --json | jq '.[].id'"),
    ),
    "jobs show": _examples(("Show all details of a job", "photojobs jobs show 1")),
    "jobs items": _examples(("List the photos that failed, and the reasons", "photojobs jobs items 1 --status failed")),
    "jobs why": _examples(
        ("Show why a job does not start", "photojobs jobs why 1"),
        ("Print JSON", "photojobs jobs why 1 --json | jq .verdict"),
    ),
    "jobs retry": _examples(
        ("Queue two jobs again", "photojobs jobs retry 3 4"),
        ("Queue all failed jobs of a project again", "photojobs jobs retry --status failed --project Iceland"),
    ),
    "jobs cancel": _examples(
        ("Cancel one job", "photojobs jobs cancel 3"),
        ("Cancel all queued jobs of a step type", "photojobs jobs cancel --status queued --type metadata"),
    ),
    "lanes": _examples(
        ("Show how many jobs may run", "photojobs lanes list"),
        ("Allow four jobs at the same time", "photojobs lanes set normal --slots 4"),
    ),
    "lanes list": _examples(("Show how many jobs may run, and how many are running", "photojobs lanes list")),
    "lanes set": _examples(
        ("Allow four jobs at the same time", "photojobs lanes set normal --slots 4"),
        (
            "Raise the priority of waiting jobs by one every ten minutes",
            "photojobs lanes set normal --aging-seconds 600",
        ),
        ("Take turns among tenants", "photojobs lanes set normal --fair-tenants"),
    ),
    "definitions": _examples(
        ("List the definitions", "photojobs definitions list"),
        ("Show one definition", "photojobs definitions show maintenance"),
        ("Create your own definition", "photojobs definitions new nightly_look"),
        ("Draw a definition", "photojobs definitions graph maintenance_global"),
    ),
    "definitions new": _examples(
        ("Create a definition that checks all projects", "photojobs definitions new nightly_look"),
        (
            "Choose the steps; each run names its photos",
            "photojobs definitions new dates --step metadata folder_check --scope photo_set",
        ),
        ("Choose the file", 'photojobs definitions new weekly --label "Weekly Look" --output look.yaml'),
    ),
    "definitions graph": _examples(
        ("Draw in the terminal", "photojobs definitions graph maintenance_global"),
        ("Write an SVG file", "photojobs definitions graph process_photos --output process_photos.svg"),
        ("Draw the progress of a task for a page on GitHub", "photojobs definitions graph --task TASK --form mermaid"),
    ),
    "definitions list": _examples(("List the definitions", "photojobs definitions list")),
    "definitions show": _examples(("Show the steps of a definition", "photojobs definitions show maintenance")),
    "definitions lint": _examples(
        ("Check your own definitions", "photojobs definitions lint"),
        ("Check one file", "photojobs definitions lint own.yaml"),
    ),
    "definitions diff": _examples(
        ("Show what a deploy would change", "photojobs definitions diff"),
        ("Compare with the definition of a task", "photojobs definitions diff --task TASK"),
    ),
    "definitions schema": _examples(
        ("Write the schema for an editor", "photojobs definitions schema --output photojobs.schema.json"),
    ),
    "steps": _examples(
        ("List the step types", "photojobs steps list"),
        ("Show one step type", "photojobs steps show manifest_check"),
    ),
    "steps list": _examples(("List the step types", "photojobs steps list")),
    "steps show": _examples(("Show one step type", "photojobs steps show manifest_check")),
    "library": _examples(
        ("List the projects", "photojobs library list"),
        ("Add an empty project", 'photojobs library add-project "Winter 2025"'),
        ("Show how much was verified, and what is corrupt", "photojobs library verify"),
    ),
    "library verify": _examples(
        ("Show how much was verified, and what is corrupt", "photojobs library verify"),
        ("Print the same as JSON", "photojobs library verify --json"),
    ),
    "library list": _examples(
        ("List the projects", "photojobs library list"),
        ("List the archived projects", "photojobs library list --archived"),
    ),
    "library add-project": _examples(
        ("Add a project of a tenant", 'photojobs library add-project "Summer 2025" --tenant anna')
    ),
    "db": _examples(
        ("Check the database, and show what an upgrade would do", "photojobs db check"),
        ("Copy the database to a file beside it", "photojobs db backup"),
    ),
    "db upgrade": _examples(("Upgrade to the newest schema", "photojobs db upgrade")),
    "db check": _examples(("Check the database, and show what an upgrade would do", "photojobs db check")),
    "db backup": _examples(
        ("Write the backup beside the database", "photojobs db backup"),
        ("Name the backup file", "photojobs db backup backup.db"),
    ),
    "db restore": _examples(
        (
            "Restore into a new database",
            "PHOTOJOBS_DATABASE_URL=sqlite:///restored.db photojobs db restore backup.db",
        )
    ),
    "db prune": _examples(
        ("Remove the history of tasks that ended more than 90 days ago", "photojobs db prune --older-than-days 90")
    ),
    "db downgrade": _examples(
        ("Return to the schema that programs used before photojobs", "photojobs db downgrade --revision 0001")
    ),
}
