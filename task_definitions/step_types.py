"""The step types that definitions use, with a description of each.

The handlers are in `flows.steps`, and `flows.handlers.step` registers them. `_load_all` in that file keeps the
errors of packages whose steps cannot be loaded.
"""

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

#: The entry-point group in which installed packages declare their own step types: `type = "package.module:function"`.
STEP_ENTRY_POINT_GROUP = "photojobs.steps"


@dataclass(frozen=True)
class StepType:
    """The properties of a step type that are known without its handler.

    Attributes:
        name: The name in definitions.
        unit: What the jobs of a step work on: `items` (photos, in chunks), `projects` or the whole `library`.
        summary: What a step does, on one line.
        description: What a user should know before using the step type.
        default_items: For the unit `items`: the photos of the task's projects that the step works on if the task was
            started without items. `pending_deletions` are the photos with a file on disk that a user has marked for
            removal (keep flag 0).
        modifies_files: Whether a step changes originals, folders or manifests, or adds or removes rows of photos or
            projects, so that no other such step may work on the same project at the same time.
        takes_force: Whether `force` in the payload or in the step's params makes a step repeat work that is already
            done.
        takes_destination: For the unit `items`: whether the task's project is the destination of the photos, so that a
            task with a photo set must have a project.
        takes_archived: Whether a step works on archived projects. Commands refuse a task that names an archived
            project if no step of the task has this property.
        reads_other_projects: Whether a step also reads projects of the tenant that do not belong to its task, so that a
            plan must have their rows.
    """

    name: str
    unit: Unit
    summary: str
    description: str = ""
    default_items: DefaultItems = "all"
    modifies_files: bool = True
    takes_force: bool = False
    takes_destination: bool = False
    takes_archived: bool = False
    reads_other_projects: bool = False

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
        summary="Removes files that have been in .trash for longer than the time to live.",
        description="A file's time to live begins when it is moved to .trash. It is 24 hours by default; the setting "
        "trash_ttl_seconds changes it. Only this step and the deletion of a whole project remove originals for good.",
    ),
    StepType(
        name="orphaned_project_cleanup",
        unit="projects",
        summary="Archives projects whose folder is missing, and removes their rows on a later run.",
        description="Stops with an error if the library root is missing or empty, because nothing must be deleted if "
        "a disk is not mounted. Before rows are removed, the rows of photos that a user moved are updated.",
    ),
    StepType(
        name="duplicate_resolution",
        unit="projects",
        summary="Reports, or renames, photos that have the base name of an earlier photo in another project.",
        description="With the setting rename_user_files = rename, these photos, except exact copies, become "
        "<name>_duplicate<n> on disk and in SQL, with all companions, and upload_postprocess runs for them. Put this "
        "step before folder_check.",
        reads_other_projects=True,
    ),
    StepType(
        name="folder_alignment",
        unit="projects",
        summary="Reports, or renames, project folders whose names differ from the names of their projects.",
        description="With the setting rename_user_files = rename, a folder gets its project's name, made safe and "
        "unique; folder, row and manifest change together. Skips a project whose folder is missing or whose new name "
        "is taken.",
    ),
    StepType(
        name="manifest_check",
        unit="projects",
        summary="Repairs the manifest, and updates in SQL which files are available on disk.",
        description="Writes .project.yaml if it is missing or wrong. Scans each project's folder once, and updates "
        "only the rows that differ.",
    ),
    StepType(
        name="folder_check",
        unit="projects",
        summary="Adds rows for new files on disk, and reports files of no accepted kind.",
        description="Runs upload_postprocess for new photos. If a user moved a photo, its row is kept and "
        "updated. Files of no accepted kind stay, unless the setting unaccepted_files is trash; hidden files, the "
        "manifest and sidecars always stay.",
        reads_other_projects=True,
    ),
    StepType(
        name="manifest_cleaning",
        unit="projects",
        summary="Removes the rows of photos whose files have been missing for long.",
        description="Removes a row if all files of the photo are missing now and were already missing in a run at "
        "least missing_grace_seconds ago. Before that, the rows of photos that a user moved are updated.",
        reads_other_projects=True,
    ),
    StepType(
        name="derivative_validation",
        unit="projects",
        summary="Finds thumbnails and previews that are missing, empty or outdated.",
        description="Sets their status to missing, and gives their photos to generate_derivatives.",
        modifies_files=False,
    ),
    StepType(
        name="generate_derivatives",
        unit="items",
        summary="Makes the thumbnail and the preview of each photo.",
        description="Makes missing, failed and outdated images; with force, all images. RAW files need photojobs[raw]. "
        "A corrupt file fails only its own item.",
        modifies_files=False,
        takes_force=True,
    ),
    StepType(
        name="upload_postprocess",
        unit="items",
        summary="Makes the thumbnail and the preview, reads the metadata and sets the keep flags of each photo.",
        description="Processes a photo after it was added to a project.",
        modifies_files=False,
        takes_force=True,
    ),
    StepType(
        name="metadata",
        unit="items",
        summary="Reads the date, orientation, camera and size of each photo into SQL.",
        description="The date is the first of these that a photo has: DateTimeOriginal, CreateDate, the date in IPTC "
        "or XMP, ModifyDate.",
        modifies_files=False,
    ),
    StepType(
        name="regenerate_metadata",
        unit="projects",
        summary="Reads the metadata of all photos of the projects into SQL again.",
        description="Does the same as the step type metadata, for all photos of the projects.",
        modifies_files=False,
    ),
    StepType(
        name="file_removal",
        unit="items",
        summary="Moves the files whose keep flag is 0 to .trash.",
        description="The sidecar is moved with the last of a photo's files. Derivatives are removed with the JPEG. "
        "The photo's row is removed if no file is kept. Without items, the step processes all pending deletions "
        "of the projects.",
        default_items="pending_deletions",
    ),
    StepType(
        name="image_move_files",
        unit="items",
        summary="Moves photos with all their files to another project.",
        description="Files, sidecars, derivatives, row and tags move together. If a name is taken there, the photo "
        "gets _duplicate<n>; nothing is overwritten. Sets the flag need_generate_derivatives.",
        takes_destination=True,
    ),
    StepType(
        name="folder_discovery",
        unit="library",
        summary="Makes the projects in SQL match the folders of the library.",
        description="A folder without a project becomes a project, a folder that was renamed keeps its project, and a "
        "project whose folder is missing is archived. With the setting merge_folders, a folder that is a copy of a "
        "project's folder is merged into the project's folder without overwriting files.",
        reads_other_projects=True,
    ),
    StepType(
        name="verify_originals",
        unit="projects",
        summary="Reads originals again, and finds corrupt ones.",
        description="Begins with the originals that were read longest ago. The parameter bytes_per_run limits the "
        "bytes that a run reads, and megabytes_per_second its speed; 0 means no limit. If the contents of an original "
        "changed, but not its size and times, the job fails and names the original and the time at which it was last "
        "correct. An edited file is not a failure. Changes no file.",
        modifies_files=False,
    ),
    StepType(
        name="project_stop_processes",
        unit="projects",
        summary="Archives the project and cancels its other jobs.",
        description="The first step of a deletion; it never cancels its own task. The job must name the project.",
        takes_archived=True,
    ),
    StepType(
        name="project_delete_files",
        unit="projects",
        summary="Removes the project's folder.",
        description="Removes its files for good, without moving them to .trash. The job must name the project.",
        takes_archived=True,
    ),
    StepType(
        name="project_cleanup_db",
        unit="projects",
        summary="Removes the project's photos, its tags and the project from SQL.",
        description="Removes everything in one transaction. The job must name the project.",
        takes_archived=True,
    ),
    StepType(
        name="project_scavenge",
        unit="projects",
        summary="Removes folders that archived projects left behind.",
        description="Works on archived projects only.",
        takes_archived=True,
    ),
    StepType(
        name="undo",
        unit="library",
        summary="Reverts what another task moved, removed, renamed or changed.",
        description='The payload names the task: {"undo": "<task id>"}. Files are moved back, and rows are restored '
        "with their ids and tags. Nothing is overwritten; changes that cannot be reverted are reported.",
    ),
)
#: The built-in step types by name.
BUILTIN_STEP_TYPES: Mapping[str, StepType] = MappingProxyType({step_type.name: step_type for step_type in _BUILTIN})

_registered: dict[str, StepType] = {}
_registering = threading.Lock()


def register_step_type(step_type: StepType) -> None:
    """Register a step type for use in definitions. Registering an equal step type again changes nothing.

    Raises:
        ConflictingStepType: the name belongs to a step type with other properties.
    """
    with _registering:
        known = step_types().get(step_type.name)
        if known is not None and known != step_type:
            known_as = "built in" if step_type.name in BUILTIN_STEP_TYPES else "already registered"
            raise ConflictingStepType(
                f'step type "{step_type.name}": a step type with this name and other properties is {known_as} '
                f'("{known.summary}"). Give the new step type another name.'
            )
        if known is None:
            _registered[step_type.name] = step_type


def step_types() -> Mapping[str, StepType]:
    """Return all registered step types by name, the built-in ones first."""
    return MappingProxyType({**BUILTIN_STEP_TYPES, **_registered})


def takes_force(definition: TaskDefinition) -> bool:
    """Return whether `force` has an effect on one of the definition's steps."""
    return any(step.takes_force for step in _known_steps(definition))


def takes_destination(definition: TaskDefinition) -> bool:
    """Return whether one of the definition's steps moves the photos of a photo set to the task's project."""
    return any(step.takes_destination for step in _known_steps(definition))


def takes_archived(definition: TaskDefinition) -> bool:
    """Return whether one of the definition's steps works on archived projects."""
    return any(step.takes_archived for step in _known_steps(definition))


def _known_steps(definition: TaskDefinition) -> list[StepType]:
    # A step may be of a package that is not installed here.
    known = step_types()
    return [known[step.type] for step in definition.steps if step.type in known]


def known_step_type_names() -> frozenset[str]:
    """Return the names of all step types that definitions may use.

    These are the names in `step_types()` and the names of installed entry points in the group `photojobs.steps`. Entry
    points are not loaded, so that definitions can be read even if an installed package is broken.
    """
    return frozenset(step_types()) | {entry_point.name for entry_point in entry_points(group=STEP_ENTRY_POINT_GROUP)}
