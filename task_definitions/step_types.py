"""The step types that definitions may name: what each works on and does. The handlers are in `flows`."""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Literal, get_args

from task_definitions.errors import ConflictingStepType, InvalidStepType
from task_definitions.model import MAX_NAME_CHARACTERS, STEP_TYPE_PATTERN, TaskDefinition
from task_definitions.wording import listed, shown

Unit = Literal["items", "projects", "library"]
DefaultItems = Literal["all", "pending_deletions"]

#: The entry-point group in which installed packages declare their own step types.
STEP_ENTRY_POINT_GROUP = "photojobs.steps"


@dataclass(frozen=True)
class StepType:
    """The properties of a step type that are known without its handler.

    Attributes:
        name: What definitions call it.
        unit: What its jobs work on: `items` (photos, in chunks), `projects` or the whole `library`.
        summary: What it does, on one line.
        description: What a user should know before using it.
        default_items: For the unit `items`: the photos of the target projects that it works on if the task has no
            items. `pending_deletions` are the photos with a file on disk whose keep flag is 0.
        modifies_files: Whether it changes originals or their rows, so that no other such step may work on the same
            project at the same time.
        takes_force: Whether `force` in the payload makes it repeat work that is already done.
        takes_destination: For the unit `items`: whether the task's project is the destination of the photos, so that a
            photo set must name one.
    """

    name: str
    unit: Unit
    summary: str
    description: str = ""
    default_items: DefaultItems = "all"
    modifies_files: bool = True
    takes_force: bool = False
    takes_destination: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(STEP_TYPE_PATTERN, self.name) or len(self.name) > MAX_NAME_CHARACTERS:
            raise InvalidStepType(
                f"step type {shown(self.name)}: the name is not allowed: give 1 to {MAX_NAME_CHARACTERS} characters, "
                "a small letter first, then small letters, digits, _, . and -."
            )
        for field, allowed in (("unit", get_args(Unit)), ("default_items", get_args(DefaultItems))):
            if getattr(self, field) not in allowed:
                raise InvalidStepType(
                    f"step type {shown(self.name)}: {field} {shown(getattr(self, field))} is not allowed: "
                    f"give {listed(allowed)}."
                )


_BUILTIN = (
    StepType(
        name="trash_maintenance",
        unit="projects",
        summary="Removes what has lain in .trash for longer than the time to live.",
        description="The age counts from the moment at which a file was put into .trash (24 hours, a setting). This "
        "is the only step that removes originals for good, apart from the deletion of a whole project.",
    ),
    StepType(
        name="orphaned_project_cleanup",
        unit="projects",
        summary="Archives projects whose folder is gone, and removes their rows on a later run.",
        description="Stops with an error where the library root is missing or empty: an unmounted disk must not "
        "delete anything. Before rows go, those of photos that were moved by hand follow their files.",
    ),
    StepType(
        name="duplicate_resolution",
        unit="projects",
        summary="Reports, or renames, later photos that have the base name of an earlier one in another project.",
        description="With the setting rename_user_files = rename they become <name>_duplicate<n> on disk and in SQL, "
        "with all companions, and go to post-processing. Belongs before folder_check.",
    ),
    StepType(
        name="folder_alignment",
        unit="projects",
        summary="Reports, or renames, project folders that are not called as their projects.",
        description="With the setting rename_user_files = rename a folder gets its project's name, sanitised and made "
        "unique; folder, row and manifest change together. Skips a project whose folder is missing or whose new name "
        "is taken.",
    ),
    StepType(
        name="manifest_check",
        unit="projects",
        summary="Repairs the manifest, and brings the availability of files in SQL in line with the disk.",
        description="Writes a missing or wrong .project.yaml. One directory scan a project, then only the rows that "
        "differ are updated.",
    ),
    StepType(
        name="folder_check",
        unit="projects",
        summary="Gives new files on disk a row, and reports files of no accepted kind.",
        description="New photos go to post-processing. A photo that was moved by hand keeps its row, which follows its "
        "file. Files of no accepted kind stay, unless the setting "
        "unaccepted_files says trash; hidden entries, the manifest and sidecars always stay.",
    ),
    StepType(
        name="manifest_cleaning",
        unit="projects",
        summary="Removes the rows of photos that have had no file for long.",
        description="A photo goes when its JPEG, its RAW and its other files are all gone, and were so in an earlier "
        "run at least missing_grace_seconds ago. Before the first goes, rows follow files that were moved by hand.",
    ),
    StepType(
        name="derivative_validation",
        unit="projects",
        summary="Finds thumbnails and previews that are missing, empty or outdated.",
        description="Their status becomes missing, and they go to generate_derivatives as items.",
        modifies_files=False,
    ),
    StepType(
        name="generate_derivatives",
        unit="items",
        summary="Makes the thumbnail and the preview of each photo.",
        description="Only what is missing, failed or outdated; all with force. RAW files need the extra named raw. "
        "A corrupt file fails its own item.",
        modifies_files=False,
        takes_force=True,
    ),
    StepType(
        name="upload_postprocess",
        unit="items",
        summary="Makes thumbnail and preview, reads metadata and aligns the keep flags of each photo.",
        description="What a photo needs after it has come into a project.",
        modifies_files=False,
        takes_force=True,
    ),
    StepType(
        name="metadata",
        unit="items",
        summary="Reads date, orientation, camera and size of each photo into SQL.",
        description="The date is the first of DateTimeOriginal, CreateDate and ModifyDate.",
        modifies_files=False,
    ),
    StepType(
        name="regenerate_metadata",
        unit="projects",
        summary="Reads the metadata of all photos of the projects into SQL again.",
        description="As metadata, for whole projects.",
        modifies_files=False,
    ),
    StepType(
        name="file_removal",
        unit="items",
        summary="Moves the files whose keep flag is 0 to .trash.",
        description="The sidecar goes with the last of a photo's files, derivatives with its JPEG, and the row when "
        "nothing is kept. Without items it works on all pending deletions of the projects.",
        default_items="pending_deletions",
    ),
    StepType(
        name="image_move_files",
        unit="items",
        summary="Moves photos with all their files into another project.",
        description="Files, sidecars, derivatives, row and tags move together. A name that is taken there gets "
        "_duplicate<n>; nothing is overwritten. Sets the flag need_generate_derivatives.",
        takes_destination=True,
    ),
    StepType(
        name="folder_discovery",
        unit="library",
        summary="Brings the projects in SQL in line with the folders of the library.",
        description="A folder without a project becomes one, a folder that was renamed keeps its project, and a "
        "project whose folder is gone is archived. Two folders of the same project are merged, nothing overwritten.",
    ),
    StepType(
        name="verify_originals",
        unit="projects",
        summary="Reads originals again, and finds those that have become corrupt.",
        description="Those first that were read longest ago, until bytes_per_run were read, at most so many "
        "megabytes_per_second; 0 is no limit. An original of the same size and times but with other contents fails the "
        "job, by name and with the moment when it was last right. An edited file is no failure. Changes no file.",
        modifies_files=False,
    ),
    StepType(
        name="project_stop_processes",
        unit="projects",
        summary="Archives the project and cancels its other jobs.",
        description="The first step of a deletion; it never cancels its own task.",
    ),
    StepType(
        name="project_delete_files",
        unit="projects",
        summary="Removes the project's folder.",
        description="For good: what lies in it does not go to .trash.",
    ),
    StepType(
        name="project_cleanup_db",
        unit="projects",
        summary="Removes the project's photos, its tags and the project from SQL.",
        description="In one transaction.",
    ),
    StepType(
        name="project_scavenge",
        unit="projects",
        summary="Removes folders that archived projects left behind.",
        description="Works on archived projects only.",
    ),
    StepType(
        name="undo",
        unit="library",
        summary="Brings back what another task moved, removed, renamed or changed.",
        description='The payload names the task: {"undo": "<task id>"}. Files come back from where the task put '
        "them, rows with their ids and tags. Nothing is overwritten; what cannot come back is named.",
    ),
)
#: The built-in step types by name.
BUILTIN_STEP_TYPES: Mapping[str, StepType] = MappingProxyType({step_type.name: step_type for step_type in _BUILTIN})

_registered: dict[str, StepType] = {}
_registering = threading.Lock()


def register_step_type(step_type: StepType) -> None:
    """Register a step type for use in definitions. Registering the same one again changes nothing.

    Raises:
        ConflictingStepType: the name belongs to a step type with other properties.
    """
    with _registering:
        known = step_types().get(step_type.name)
        if known is not None and known != step_type:
            whose = "built in" if step_type.name in BUILTIN_STEP_TYPES else "registered already"
            raise ConflictingStepType(
                f'step type "{step_type.name}": is {whose}, with other properties ("{known.summary}"). '
                "Give yours another name."
            )
        if known is None:
            _registered[step_type.name] = step_type


def step_types() -> Mapping[str, StepType]:
    """Return all registered step types by name, the built-in ones first."""
    return MappingProxyType({**BUILTIN_STEP_TYPES, **_registered})


def takes_force(definition: TaskDefinition) -> bool:
    """Whether `force` has an effect on one of the definition's steps."""
    known = step_types()
    return any(step.type in known and known[step.type].takes_force for step in definition.steps)


def takes_destination(definition: TaskDefinition) -> bool:
    """Whether one of the definition's steps moves the photos of a photo set into its project."""
    known = step_types()
    return any(step.type in known and known[step.type].takes_destination for step in definition.steps)


def known_step_type_names() -> frozenset[str]:
    """Return every name that a definition may use as a step type.

    These are the names in `step_types()` and those of the installed entry points of the group `photojobs.steps`. The
    entry points are not loaded, so that a broken package does not make definitions unreadable.
    """
    return frozenset(step_types()) | {entry_point.name for entry_point in entry_points(group=STEP_ENTRY_POINT_GROUP)}
