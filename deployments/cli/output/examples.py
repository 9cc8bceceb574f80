"""Example command lines for the help page of every command, each with its purpose; the tests run them.

Examples are grouped by command: "" is the root, "jobs" is a group, "jobs list" is a command in that group.
"""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, Mapping[str, str]] = {
    "": {
        "Try photojobs on a library that the demo creates": "photojobs demo",
        "Set up your own photographs; the command asks before it writes": "photojobs init ~/Pictures",
        "See what the nightly maintenance would do; nothing is changed": "photojobs plan maintenance_global",
        "Run the nightly maintenance": "photojobs run maintenance_global",
        "Show what is running, what is waiting and why, and what failed": "photojobs status",
    },
    "init": {
        "Look at the folder; the command asks before it writes": "photojobs init ~/Pictures",
        "See what would be written": "photojobs init ~/Pictures --dry-run",
        "Ask nothing, and add the photographs too": "photojobs init ~/Pictures --yes --discover",
        "Write the settings to another folder": "photojobs init ~/Pictures --into ~/photojobs --yes",
    },
    "doctor": {
        "Check everything": "photojobs doctor",
        "Print problems and warnings as JSON": (
            "photojobs doctor --json | jq '.findings[] | select(.standing != \"fine\")'"
        ),
    },
    "demo": {
        "Run the demo in the folder photojobs-demo (two minutes)": "photojobs demo",
        "Run a short demo, and keep Prefect's server running": "photojobs demo --photos 200 --keep",
    },
    "plan": {
        "Show what the maintenance of all projects would do": "photojobs plan maintenance_global",
        "Save the plan, to carry it out later": "photojobs plan change_commit --project 1 --save commit.plan",
        "Print JSON": "photojobs plan maintenance --project 1 --json | jq .counts",
    },
    "run": {
        "Maintain one project": "photojobs run maintenance --project 1",
        "Create the missing previews": "photojobs run process_photos --all --missing preview",
        "Move three photos into project 2": "photojobs run image_move --project 2 --item 1 2 3",
        "Carry out a saved plan; changes to files that changed since are refused": "photojobs run --plan commit.plan",
    },
    "start": {
        "Maintain one project": "photojobs start maintenance --project 1",
        "Process the photos of last summer": "photojobs start process_photos --from 2025-06-01 --to 2025-08-31",
    },
    "undo": {
        "See what would be restored, and what cannot be": "photojobs undo TASK --dry-run",
        "Undo without a confirmation": "photojobs undo TASK --yes",
    },
    "cancel": {"Cancel a task, and give the reason": 'photojobs cancel TASK --reason "wrong project"'},
    "retry": {
        "Run the failed and canceled jobs again": "photojobs retry TASK",
        "Run a step and all steps after it again": "photojobs retry TASK --from manifest_check",
    },
    "hold": {
        "Hold all jobs of a lane": 'photojobs hold lane normal --reason "backup until six"',
        "Hold all jobs of a tenant": "photojobs hold tenant anna",
    },
    "release": {"Let the jobs of the lane start again": "photojobs release lane normal"},
    "up": {
        "Run everything on this machine": "photojobs up",
        "Use another port for Prefect's pages": "photojobs up --port 4201",
    },
    "serve": {"Serve to a running Prefect server": "PREFECT_API_URL=http://prefect:4200/api photojobs serve"},
    "worker": {
        "Run all waiting jobs, and end": "photojobs worker --once",
        "Run only urgent jobs, two at the same time": "photojobs worker --lane priority --concurrency 2",
    },
    "deploy": {
        "Deploy, and create the pool if it is missing": "photojobs deploy --pool photos --create-pool process",
        "See what would be done": "photojobs deploy --pool photos --dry-run",
        "Write a file for `prefect deploy --all`": "photojobs deploy --pool photos --write-prefect-yaml prefect.yaml",
    },
    "status": {
        "Show the status once": "photojobs status",
        "Update the display until Ctrl-C": "photojobs status --watch",
        "Show more rows, of one tenant only": "photojobs status --tenant anna --limit 20",
        "Print JSON": "photojobs status --json | jq .waiting",
    },
    "tasks": {
        "List the newest tasks": "photojobs tasks list",
        "Show the progress of a task": "photojobs tasks show TASK",
    },
    "tasks list": {
        "List failed tasks": "photojobs tasks list --status failed",
        "Print JSON": "photojobs tasks list --type maintenance --json | jq '.[].id'",
    },
    "tasks show": {"Show the progress and the results of a task": "photojobs tasks show TASK"},
    "completion": {
        "Complete commands in this shell only": "source <(photojobs completion bash)",
        "Complete commands in every new shell": "photojobs completion zsh --install",
        "Write the script to a file": "photojobs completion fish > ~/.config/fish/completions/photojobs.fish",
    },
    "jobs": {
        "List failed jobs": "photojobs jobs list --status failed",
        "Show why a job does not start": "photojobs jobs why 1",
    },
    "report": {
        "Report on the newest task": "photojobs report",
        "Report on another task, with a larger contact sheet": (
            "photojobs report TASK --photos 120 --output nightly.html"
        ),
        "Print JSON": "photojobs report --json | jq .failures",
    },
    "jobs list": {
        "List failed jobs, the newest first": "photojobs jobs list --status failed",
        "List the jobs of a task": "photojobs jobs list --task TASK",
        "Print JSON": "photojobs jobs list --type metadata --json | jq '.[].id'",
    },
    "jobs show": {"Show all details of a job": "photojobs jobs show 1"},
    "jobs items": {"List the photos that failed, and the reasons": "photojobs jobs items 1 --status failed"},
    "jobs why": {
        "Show why a job does not start": "photojobs jobs why 1",
        "Print JSON": "photojobs jobs why 1 --json | jq .verdict",
    },
    "jobs retry": {
        "Queue two jobs again": "photojobs jobs retry 3 4",
        "Queue all failed jobs of a project again": "photojobs jobs retry --status failed --project Iceland",
    },
    "jobs cancel": {
        "Cancel one job": "photojobs jobs cancel 3",
        "Cancel all queued jobs of a step type": "photojobs jobs cancel --status queued --type metadata",
    },
    "lanes": {
        "Show how many jobs may run": "photojobs lanes list",
        "Allow four jobs at the same time": "photojobs lanes set normal --slots 4",
    },
    "lanes list": {"Show how many jobs may run, and how many are running": "photojobs lanes list"},
    "lanes set": {
        "Allow four jobs at the same time": "photojobs lanes set normal --slots 4",
        "Raise the priority of waiting jobs by one every ten minutes": "photojobs lanes set normal --aging-seconds 600",
        "Among jobs of equal priority, let the tenants take turns": "photojobs lanes set normal --fair-tenants",
    },
    "definitions": {
        "List the definitions": "photojobs definitions list",
        "Show one definition": "photojobs definitions show maintenance",
        "Create your own definition": "photojobs definitions new nightly_look",
        "Draw a definition": "photojobs definitions graph maintenance_global",
    },
    "definitions new": {
        "Create a definition that checks all projects": "photojobs definitions new nightly_look",
        "Choose the steps; each run names its photos": (
            "photojobs definitions new dates --step metadata folder_check --scope photo_set"
        ),
        "Choose the file": 'photojobs definitions new weekly --label "Weekly Look" --output look.yaml',
    },
    "definitions graph": {
        "Draw in the terminal": "photojobs definitions graph maintenance_global",
        "Write an SVG file": "photojobs definitions graph process_photos --output process_photos.svg",
        "Draw the progress of a task for a page on GitHub": "photojobs definitions graph --task TASK --form mermaid",
    },
    "definitions list": {"List the definitions": "photojobs definitions list"},
    "definitions show": {"Show the steps of a definition": "photojobs definitions show maintenance"},
    "definitions lint": {
        "Check your own definitions": "photojobs definitions lint",
        "Check one file": "photojobs definitions lint own.yaml",
    },
    "definitions diff": {
        "Show what a deploy would change": "photojobs definitions diff",
        "Compare with the definition of a task": "photojobs definitions diff --task TASK",
    },
    "definitions schema": {
        "Write the schema for an editor": "photojobs definitions schema --output photojobs.schema.json"
    },
    "steps": {
        "List the step types": "photojobs steps list",
        "Show one step type": "photojobs steps show manifest_check",
    },
    "steps list": {"List the step types": "photojobs steps list"},
    "steps show": {"Show one step type": "photojobs steps show manifest_check"},
    "library": {
        "List the projects": "photojobs library list",
        "Add an empty project": 'photojobs library add-project "Winter 2025"',
        "Show how much was verified, and what is corrupt": "photojobs library verify",
    },
    "library verify": {
        "Show how much was verified, and what is corrupt": "photojobs library verify",
        "Print the same as JSON": "photojobs library verify --json",
    },
    "library list": {
        "List the projects": "photojobs library list",
        "List the archived projects": "photojobs library list --archived",
    },
    "library add-project": {"Add a project of a tenant": 'photojobs library add-project "Summer 2025" --tenant anna'},
    "db": {
        "Check the database, and show what an upgrade would do": "photojobs db check",
        "Copy the database to a file beside it": "photojobs db backup",
    },
    "db upgrade": {"Upgrade to the newest schema": "photojobs db upgrade"},
    "db check": {"Check the database, and show what an upgrade would do": "photojobs db check"},
    "db backup": {
        "Write the backup beside the database": "photojobs db backup",
        "Name the backup file": "photojobs db backup backup.db",
    },
    "db restore": {
        "Restore into a new database": "PHOTOJOBS_DATABASE_URL=sqlite:///restored.db photojobs db restore backup.db"
    },
    "db prune": {
        "Remove the history of tasks that ended more than 90 days ago": "photojobs db prune --older-than-days 90"
    },
    "db downgrade": {
        "Return to the schema of the programs from before photojobs": "photojobs db downgrade --revision 0001"
    },
}
