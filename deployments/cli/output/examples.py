"""Example command lines for the help page of every command; the tests run them.

The key of an example is its command: "" is the root, "jobs" a group, "jobs list" a command in it.
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
        ("See it work, on a library that it makes for itself", "photojobs demo"),
        ("Begin with your own photographs; it asks before it writes", "photojobs init ~/Pictures"),
        ("See what the nightly maintenance would do; nothing is changed", "photojobs plan maintenance_global"),
        ("Do it", "photojobs run maintenance_global"),
        ("What runs, what waits and why, what failed", "photojobs status"),
    ),
    "init": _examples(
        ("Look, and ask", "photojobs init ~/Pictures"),
        ("See what would be written", "photojobs init ~/Pictures --dry-run"),
        ("Without questions, and enter the photographs too", "photojobs init ~/Pictures --yes --discover"),
        ("Settings in a folder of their own", "photojobs init ~/Pictures --into ~/photojobs --yes"),
    ),
    "doctor": _examples(
        ("Look at everything", "photojobs doctor"),
        ("What is wrong, for programs", "photojobs doctor --json | jq '.findings[] | select(.standing != \"fine\")'"),
    ),
    "demo": _examples(
        ("Two minutes, in the folder photojobs-demo", "photojobs demo"),
        ("A quick look, and Prefect's pages stay open", "photojobs demo --photos 200 --keep"),
    ),
    "plan": _examples(
        ("What would the maintenance of all projects do?", "photojobs plan maintenance_global"),
        ("Keep the plan, to run it as it was read", "photojobs plan change_commit --project 1 --save commit.plan"),
        ("For programs", "photojobs plan maintenance --project 1 --json | jq .counts"),
    ),
    "run": _examples(
        ("Look after one project", "photojobs run maintenance --project 1"),
        ("Make the previews that are missing", "photojobs run process_photos --all --missing preview"),
        ("Move three photos into project 2", "photojobs run image_move --project 2 --item 1 2 3"),
        ("Do what a plan says, and refuse what has changed since", "photojobs run --plan commit.plan"),
    ),
    "start": _examples(
        ("Look after one project", "photojobs start maintenance --project 1"),
        ("The photos of last summer", "photojobs start process_photos --from 2025-06-01 --to 2025-08-31"),
    ),
    "undo": _examples(
        ("See what would come back, and what cannot", "photojobs undo TASK --dry-run"),
        ("Take it back without being asked", "photojobs undo TASK --yes"),
    ),
    "cancel": _examples(("It was the wrong project", 'photojobs cancel TASK --reason "wrong project"')),
    "retry": _examples(
        ("What failed once more", "photojobs retry TASK"),
        ("All from one step on", "photojobs retry TASK --from manifest_check"),
    ),
    "hold": _examples(
        ("Let no job of a lane start", 'photojobs hold lane normal --reason "backup until six"'),
        ("Let nothing of a tenant start", "photojobs hold tenant anna"),
    ),
    "release": _examples(("The backup is over", "photojobs release lane normal")),
    "up": _examples(
        ("Everything on this machine", "photojobs up"),
        ("With the pages at another port", "photojobs up --port 4201"),
    ),
    "serve": _examples(
        ("Serve to a server that runs already", "PREFECT_API_URL=http://prefect:4200/api photojobs serve")
    ),
    "worker": _examples(
        ("Work off what waits, and end", "photojobs worker --once"),
        ("Urgent jobs alone, two at a time", "photojobs worker --lane priority --concurrency 2"),
    ),
    "deploy": _examples(
        ("Make the pool too", "photojobs deploy --pool photos --create-pool process"),
        ("See what would be done", "photojobs deploy --pool photos --dry-run"),
        ("Write a file for `prefect deploy --all`", "photojobs deploy --pool photos --write-prefect-yaml prefect.yaml"),
    ),
    "status": _examples(
        ("Once", "photojobs status"),
        ("Live, until Ctrl-C", "photojobs status --watch"),
        ("More rows, of one tenant", "photojobs status --tenant anna --limit 20"),
        ("For programs", "photojobs status --json | jq .waiting"),
    ),
    "tasks": _examples(
        ("What was started", "photojobs tasks list"),
        ("How far is it?", "photojobs tasks show TASK"),
    ),
    "tasks list": _examples(
        ("What failed", "photojobs tasks list --status failed"),
        ("For programs", "photojobs tasks list --type maintenance --json | jq '.[].id'"),
    ),
    "tasks show": _examples(("How far is it, and what did it do?", "photojobs tasks show TASK")),
    "completion": _examples(
        ("Try it in this shell", "source <(photojobs completion bash)"),
        ("For good", "photojobs completion zsh --install"),
        ("By hand", "photojobs completion fish > ~/.config/fish/completions/photojobs.fish"),
    ),
    "jobs": _examples(
        ("What failed", "photojobs jobs list --status failed"),
        ("Why does a job not start?", "photojobs jobs why 1"),
    ),
    "report": _examples(
        ("About the newest task", "photojobs report"),
        ("About another, with a larger contact sheet", "photojobs report TASK --photos 120 --output nightly.html"),
        ("For programs", "photojobs report --json | jq .failures"),
    ),
    "jobs list": _examples(
        ("What failed, the newest first", "photojobs jobs list --status failed"),
        ("The jobs of a task", "photojobs jobs list --task TASK"),
        ("For programs", "photojobs jobs list --type metadata --json | jq '.[].id'"),
    ),
    "jobs show": _examples(("All that is known of a job", "photojobs jobs show 1")),
    "jobs items": _examples(("Which photos failed, and why", "photojobs jobs items 1 --status failed")),
    "jobs why": _examples(
        ("Why does it not start?", "photojobs jobs why 1"),
        ("For programs", "photojobs jobs why 1 --json | jq .verdict"),
    ),
    "jobs retry": _examples(
        ("Two jobs once more", "photojobs jobs retry 3 4"),
        ("All failed jobs of a project", "photojobs jobs retry --status failed --project Iceland"),
    ),
    "jobs cancel": _examples(
        ("One job", "photojobs jobs cancel 3"),
        ("All queued jobs of a step type", "photojobs jobs cancel --status queued --type metadata"),
    ),
    "lanes": _examples(
        ("How many jobs may run", "photojobs lanes list"),
        ("Allow four at a time", "photojobs lanes set normal --slots 4"),
    ),
    "lanes list": _examples(("How many jobs may run, and how many do", "photojobs lanes list")),
    "lanes set": _examples(
        ("Allow four at a time", "photojobs lanes set normal --slots 4"),
        ("Let what waits rank higher with every ten minutes", "photojobs lanes set normal --aging-seconds 600"),
        ("Take turns among tenants", "photojobs lanes set normal --fair-tenants"),
    ),
    "definitions": _examples(
        ("What can be run", "photojobs definitions list"),
        ("What one of them does", "photojobs definitions show maintenance"),
        ("Begin one of your own", "photojobs definitions new nightly_look"),
        ("See it drawn", "photojobs definitions graph maintenance_global"),
    ),
    "definitions new": _examples(
        ("Begin one that looks through all projects", "photojobs definitions new nightly_look"),
        (
            "With other steps, for photos that a run names",
            "photojobs definitions new after_import --step metadata generate_derivatives --scope photo_set",
        ),
        ("In a file of your choice", 'photojobs definitions new weekly --label "Weekly Look" --output look.yaml'),
    ),
    "definitions graph": _examples(
        ("In the terminal", "photojobs definitions graph maintenance_global"),
        ("As a picture", "photojobs definitions graph process_photos --output process_photos.svg"),
        ("How far a task is, for a page on GitHub", "photojobs definitions graph --task TASK --form mermaid"),
    ),
    "definitions list": _examples(("What can be run", "photojobs definitions list")),
    "definitions show": _examples(("The steps of a definition", "photojobs definitions show maintenance")),
    "definitions lint": _examples(
        ("Check your own definitions", "photojobs definitions lint"),
        ("Check a file", "photojobs definitions lint own.yaml"),
    ),
    "definitions diff": _examples(
        ("What a deploy would change", "photojobs definitions diff"),
        ("What a task was started with", "photojobs definitions diff --task TASK"),
    ),
    "definitions schema": _examples(
        ("For an editor", "photojobs definitions schema --output photojobs.schema.json"),
    ),
    "steps": _examples(
        ("What steps there are", "photojobs steps list"),
        ("What one of them does", "photojobs steps show manifest_check"),
    ),
    "steps list": _examples(("What steps there are", "photojobs steps list")),
    "steps show": _examples(("What a step does", "photojobs steps show manifest_check")),
    "library": _examples(
        ("Which projects there are", "photojobs library list"),
        ("A new, empty one", 'photojobs library add-project "Winter 2025"'),
        ("How much was verified, and what is corrupt?", "photojobs library verify"),
    ),
    "library verify": _examples(
        ("How much was verified, and what is corrupt?", "photojobs library verify"),
        ("The same for a program", "photojobs library verify --json"),
    ),
    "library list": _examples(
        ("Which projects there are", "photojobs library list"),
        ("The archived ones", "photojobs library list --archived"),
    ),
    "library add-project": _examples(
        ("A new project of a tenant", 'photojobs library add-project "Summer 2025" --tenant anna')
    ),
    "db": _examples(
        ("Is it sound, and what would an upgrade do?", "photojobs db check"),
        ("A copy beside it", "photojobs db backup"),
    ),
    "db upgrade": _examples(("Bring it to the newest schema", "photojobs db upgrade")),
    "db check": _examples(("Is it sound, and what would an upgrade do?", "photojobs db check")),
    "db backup": _examples(
        ("Beside the database", "photojobs db backup"),
        ("Into a file", "photojobs db backup photojobs-backup.db"),
    ),
    "db restore": _examples(
        (
            "Into a new database",
            "PHOTOJOBS_DATABASE_URL=sqlite:///restored.db photojobs db restore photojobs-backup.db",
        )
    ),
    "db prune": _examples(("Forget what ended more than three months ago", "photojobs db prune --older-than-days 90")),
    "db downgrade": _examples(("Back to what programs knew before", "photojobs db downgrade --revision 0001")),
}
