"""Reads and checks the settings: from environment variables (`PHOTOJOBS_…`), else `photojobs.toml`, else defaults.

A setting that changes what a step does also belongs to `_SETTINGS_THAT_MATTER` in `flows.planning.saved_plan`.
"""

import os
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from typing_extensions import override

from storage.available_cores import available_cores
from storage.default_tenant import DEFAULT_TENANT
from storage.errors import StorageError
from storage.library.naming.companions import CompanionNames
from storage.library.naming.ignored_names import DEFAULT_IGNORED_NAMES, IgnoredNames
from storage.library.naming.kinds import JPG_EXTENSIONS, OTHER_EXTENSIONS, RAW_EXTENSIONS, AcceptedExtensions
from storage.library.paths import Library, expanded_path
from task_definitions.foreign_documents import Bounds, UnreadableDocument, parse_json, parse_toml, read_foreign_file
from task_definitions.wording import did_you_mean, shown

#: The settings file in the working folder; `PHOTOJOBS_CONFIG` can name another file.
SETTINGS_FILE = "photojobs.toml"

#: The maximum age in seconds that can be given, a hundred years.
MAX_AGE_SECONDS = 3_155_760_000
#: The longest `stale_seconds`: an executor without a heartbeat for longer counts as dead in every installation.
MAX_STALE_SECONDS = 86_400

_PREFIX = "PHOTOJOBS_"
_MAX_FILE_BYTES = 256 * 1024
_BOUNDS = Bounds(max_bytes=_MAX_FILE_BYTES)
#: Environment variables that begin with `PHOTOJOBS_` and are not settings.
_OTHER_VARIABLES = frozenset(
    {
        "PHOTOJOBS_CONFIG",
        "PHOTOJOBS_TEST_POSTGRES_URL",
        "PHOTOJOBS_UP_FOLDER",
        "PHOTOJOBS_UP_OWN_SERVER",
        "PHOTOJOBS_UP_READY",
    }
)


class InvalidSettings(StorageError):
    """A setting is unknown or has a value that is not valid; the message names it and its source."""


class Settings(BaseSettings):
    """All settings. The environment variable of a field is `PHOTOJOBS_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True, validate_default=False)

    database_url: SecretStr = Field(
        SecretStr("sqlite:///photojobs.db"),
        description="SQLAlchemy URL of the database; the whole URL is treated as a secret.",
    )
    library_root: Path = Field(
        Path("library"), description="Folder of the library; a project's folder is `<tenant>/<project_folder>/` in it."
    )
    definitions: Path | None = Field(
        None, description="File or folder with definitions in addition to the built-in ones."
    )

    heartbeat_seconds: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="Time between two heartbeats of a running job; at most a third of `stale_seconds`.",
    )
    stale_seconds: float = Field(
        60.0,
        gt=0,
        le=MAX_STALE_SECONDS,
        description="A running job without a heartbeat for this long counts as abandoned and is queued again; "
        "at least three times `heartbeat_seconds`.",
    )
    poll_seconds: float = Field(
        0.5, gt=0, le=3600, description="How often an idle executor checks for work if no notification wakes it."
    )
    max_attempts: int = Field(
        3, ge=1, le=100, description="Maximum number of attempts of a job if neither job nor step sets a maximum."
    )
    retry_delay_seconds: float = Field(
        5.0,
        ge=0,
        le=86_400,
        description="Wait before the second attempt; it doubles with each further attempt, and varies at random.",
    )
    max_retry_delay_seconds: float = Field(3600.0, ge=0, le=604_800, description="Longest wait between two attempts.")
    concurrency: int = Field(
        default_factory=available_cores,
        ge=1,
        le=256,
        description="Number of jobs that one process runs at the same time.",
    )
    max_flow_runs: int = Field(
        default_factory=lambda: max(8, available_cores()),
        ge=1,
        le=1000,
        description="Number of flow runs that `photojobs up` and `serve` run at the same time, each in its own "
        "process. Flow runs that wait for a hold or a retry are included; further flow runs wait in Prefect.",
    )
    drain_seconds: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="How long a stop may take; in the last 5 seconds a worker returns its running jobs to the queue.",
    )
    window_size: int = Field(
        100,
        ge=1,
        le=10_000,
        description="Number of jobs of one step that a run follows at the same time. Jobs that cannot start yet are "
        "followed in addition, up to 500 jobs in total.",
    )
    task_runner: Literal["threads", "prefect", "dask"] = Field(
        "threads",
        description="How flow runs execute jobs: `threads` uses threads of their process; `prefect` uses the same "
        "threads, with Prefect's task engine for every task run; `dask` uses a Dask cluster (needs the extra `dask`).",
    )
    dask_address: str | None = Field(
        None,
        description="Address of the scheduler of a Dask cluster. Without an address, each flow run starts a cluster "
        "on its machine.",
    )
    dask_workers: int = Field(
        2, ge=1, le=256, description="Number of processes of a Dask cluster that a flow run starts."
    )

    schedules: dict[str, str | dict[str, Any]] = Field(
        {},
        description="Schedules that replace the schedules of definitions, by name of definition: a cron text, a "
        'mapping as in a definition file, or "off". By default, maintenance_global runs at 3:00, folder_discovery '
        "every hour, verify_originals on Saturdays at 5:00, and project_scavenge_global on Sundays at 4:00, all in "
        "UTC.",
    )
    tenant: str = Field(
        DEFAULT_TENANT, min_length=1, max_length=255, description="The tenant of commands without a tenant option."
    )
    scheduled_tenants: tuple[str, ...] = Field(
        (DEFAULT_TENANT,), description="Tenants for which scheduled definitions run."
    )

    log_format: Literal["text", "json"] = Field(
        "text",
        description="Format of the logs of processes that run jobs: text for people, or one JSON object per line.",
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="Port on which `photojobs up` and `worker` serve metrics for Prometheus; 0 is any free port. "
        "Without a port, no metrics are served.",
    )
    metrics_host: str = Field(
        "127.0.0.1",
        description="Address on which metrics are served. Other machines can read the metrics unless this is the "
        "loopback address.",
    )

    server_hosts: tuple[str, ...] = Field(
        (),
        description="Host names by which browsers reach the server of `photojobs up`, for example behind a proxy, in "
        "addition to the loopback names. Requests for other names are refused.",
    )

    trash_ttl_seconds: int = Field(
        86_400,
        ge=0,
        le=MAX_AGE_SECONDS,
        description="How long a file stays in `.trash` before trash_maintenance removes it.",
    )
    missing_grace_seconds: int = Field(
        604_800,
        ge=0,
        le=MAX_AGE_SECONDS,
        description="How long all files of a photo must be missing before manifest_cleaning removes its row, and how "
        "long the folder of a project must be missing before orphaned_project_cleanup removes its rows.",
    )
    unaccepted_files: Literal["keep", "trash"] = Field(
        "keep", description="What folder_check does with files of no accepted kind."
    )
    jpg_extensions: tuple[str, ...] = Field(
        tuple(sorted(JPG_EXTENSIONS)), description="Extensions of JPEG originals, in any case."
    )
    raw_extensions: tuple[str, ...] = Field(tuple(sorted(RAW_EXTENSIONS)), description="Extensions of RAW originals.")
    other_extensions: tuple[str, ...] = Field(
        tuple(sorted(OTHER_EXTENSIONS)), description="Extensions of other originals."
    )
    rename_user_files: Literal["report", "rename"] = Field(
        "report",
        description="Whether steps rename files and folders of users, or only report them. The step "
        "duplicate_resolution renames photos whose base name another project has, and folder_alignment folders whose "
        "name differs from their project's name. In an SQLite file of another program, folder_discovery renames new "
        "folders whose name another tenant's project has.",
    )
    merge_folders: bool = Field(
        False,
        description="Whether folder_discovery moves the files of a new folder to a project that has some of its "
        "photos. The folder must be a copy of the project's folder or have the project's name, no two files of the "
        "same name may differ, and no sidecar may get another photo. Otherwise the folder becomes a new project.",
    )
    ignored_names: tuple[str, ...] = Field(
        DEFAULT_IGNORED_NAMES,
        description="Names of files and folders that operating systems and storage systems create. Such entries "
        "are never tenants, projects or photos. Case does not matter, and `*` is any text.",
    )
    companion_patterns: tuple[str, ...] = Field(
        (),
        description="Names of further files that belong to photos, such as `{base}-edit.psd` or `Edits/{file}.*`: "
        "`{base}` is a photo's base name, `{file}` the name of one of its images, `*` any text, `?` one character.",
    )
    thumbnail_pixels: int = Field(800, ge=16, le=16_383, description="Longest edge of a thumbnail, in pixels.")
    thumbnail_quality: int = Field(50, ge=1, le=100, description="WebP quality of a thumbnail.")
    preview_pixels: int = Field(5000, ge=16, le=16_383, description="Longest edge of a preview, in pixels.")
    preview_quality: int = Field(60, ge=1, le=100, description="WebP quality of a preview.")
    webp_effort: int = Field(2, ge=0, le=6, description="WebP effort, 0 (fast) to 6 (small files).")
    max_image_megapixels: int = Field(
        500, ge=1, le=1_000_000, description="Size of the largest image that is decoded; larger images fail."
    )
    image_seconds: float = Field(120.0, gt=0, le=86_400, description="Longest time that decoding one image may take.")
    settle_seconds: float = Field(
        5.0,
        ge=0,
        le=86_400,
        description="An unreadable image fails, and a file of no accepted kind goes to the trash, only if it has not "
        "changed for this long; otherwise it waits for the next run, because another program may still write it.",
    )
    image_memory_megabytes: int = Field(
        6144,
        ge=1024,
        le=1_000_000_000,
        description="Address space that an image process may use; images that need more fail. Linux only.",
    )
    image_isolation: bool = Field(
        True, description="Decode images in separate processes, so that a crash of a decoder fails only one item."
    )

    @field_validator("database_url", "library_root", "definitions", mode="before")
    @classmethod
    def _names_a_place(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            # An empty path would mean the working folder.
            raise ValueError("is empty. Give a path or a URL, or leave the setting out.")
        return value

    @field_validator("database_url")
    @classmethod
    def _outlives_the_process(cls, url: SecretStr) -> SecretStr:
        if re.fullmatch(r"sqlite(\+\w+)?://(/(:memory:)?)?|:memory:", url.get_secret_value().strip()):
            raise ValueError(
                "is a database in memory. It would be lost when the process ends, and nothing could be undone. Name a "
                "file, as in sqlite:////srv/photos/photojobs.db."
            )
        return url

    @field_validator("library_root", "definitions")
    @classmethod
    def _with_home_folder(cls, path: Path | None) -> Path | None:
        return None if path is None else expanded_path(path)

    @field_validator("companion_patterns")
    @classmethod
    def _patterns_can_be_read(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        CompanionNames((), patterns)
        return patterns

    @field_validator("jpg_extensions", "raw_extensions", "other_extensions")
    @classmethod
    def _extensions_can_be_read(cls, extensions: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        this_kind = str(info.field_name).removesuffix("_extensions")
        of_kinds: dict[str, Any] = dict.fromkeys(("jpg", "raw", "other"), frozenset())
        AcceptedExtensions(**of_kinds | {this_kind: frozenset(extensions)})
        return extensions

    @property
    def accepted_extensions(self) -> AcceptedExtensions:
        """The extensions of image files and the patterns of companions.

        Raises:
            ValueError: two kinds of files have the same extension; `load` refuses such settings.
        """
        return AcceptedExtensions(
            jpg=frozenset(self.jpg_extensions),
            raw=frozenset(self.raw_extensions),
            other=frozenset(self.other_extensions),
            companion_patterns=self.companion_patterns,
        )

    @property
    def library(self) -> Library:
        """The library on disk, with the file names and folders that count."""
        return Library(
            self.library_root,
            ignored_names=IgnoredNames(self.ignored_names),
            accepted_extensions=self.accepted_extensions,
        )

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Return the settings of this process; `overrides` take precedence over the environment.

        Raises:
            InvalidSettings: a name is unknown or a value is not valid; the message has all problems and their sources.
        """
        file = settings_file()
        problems = [] if file is None else _unknown_keys(file)
        problems += [
            f"{name}: is not a setting" + _similar(name[len(_PREFIX) :].lower())
            for name in sorted(os.environ)
            if name.startswith(_PREFIX)
            and name not in _OTHER_VARIABLES
            and name[len(_PREFIX) :].lower() not in cls.model_fields
        ]
        try:
            settings = cls(**overrides)
        except ValidationError as error:
            problems += [
                _problem(str(item["loc"][0]), _reason(item), overrides, file)
                for item in error.errors()
                # `problems` already has the unknown names, so they are left out here.
                if item["type"] != "extra_forbidden" or item["loc"][0] in overrides
            ]
        if problems:
            raise InvalidSettings("\n".join(problems))
        if settings.stale_seconds < 3 * settings.heartbeat_seconds:
            raise InvalidSettings(
                f"stale_seconds: {settings.stale_seconds:g} is less than three heartbeats of "
                f"{settings.heartbeat_seconds:g} s, so a running job could count as abandoned. Raise stale_seconds, or "
                "lower heartbeat_seconds."
            )
        try:
            _ = settings.accepted_extensions
        except ValueError as error:
            raise InvalidSettings(str(error)) from None
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in order of precedence: arguments, environment, file. Overrides pydantic's method."""
        file = settings_file()
        environment = _Environment(settings_cls)
        if file is None:
            return (init_settings, environment)
        return (init_settings, environment, _File(settings_cls, _document_of(file)))


def settings_file() -> Path | None:
    """Return the path of the settings file, or None if there is no such file.

    Raises:
        InvalidSettings: `PHOTOJOBS_CONFIG` names a file that does not exist.
    """
    named = os.environ.get("PHOTOJOBS_CONFIG")
    if named is None:
        return Path(SETTINGS_FILE) if Path(SETTINGS_FILE).is_file() else None
    if not Path(named).is_file():
        raise InvalidSettings(f"PHOTOJOBS_CONFIG: {named} is not a file. Name a settings file, or unset the variable.")
    return Path(named)


def _unknown_keys(file: Path) -> list[str]:
    document = _document_of(file)
    schedules = document.get("schedules")
    return [
        f"{file}: {key}: is not a setting" + _similar(key) for key in document if key not in Settings.model_fields
    ] + [
        f"{file}: schedules: {key}: is a setting, not a definition. Write it above the line [schedules]."
        for key in (schedules if isinstance(schedules, dict) else ())
        if key in Settings.model_fields
    ]


def _document_of(file: Path) -> dict[str, Any]:
    try:
        content = read_foreign_file(file, max_bytes=_MAX_FILE_BYTES)
        return parse_toml(content, source=str(file), bounds=_BOUNDS, remedy="Correct the file.")
    except UnreadableDocument as error:
        raise InvalidSettings(str(error)) from None


class _File(InitSettingsSource):
    """Gives the settings of the settings file."""

    @override
    def __call__(self) -> dict[str, Any]:
        return _not_given_before(self, super().__call__())


class _Environment(EnvSettingsSource):
    """Reads environment variables. Lists and mappings are JSON, which is parsed within `_BOUNDS`."""

    @override
    def __call__(self) -> dict[str, Any]:
        return _not_given_before(self, super().__call__())

    @override
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        variable = _PREFIX + field_name.upper()
        try:
            return parse_json(value, source=variable, bounds=_BOUNDS, remedy="Correct the variable.")
        except UnreadableDocument as error:
            raise InvalidSettings(str(error)) from None


def _not_given_before(source: PydanticBaseSettingsSource, values: dict[str, Any]) -> dict[str, Any]:
    # Without this, pydantic would merge a mapping of this source into the mapping of a source before it.
    return {name: value for name, value in values.items() if name not in source.current_state}


def _similar(name: str) -> str:
    return "." + (did_you_mean(name, Settings.model_fields) or " Correct its name, or remove it.")


def _reason(error: ErrorDetails) -> str:
    """Return what is wrong with a value, and the value itself unless it is secret."""
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" or error["loc"][0] == "database_url":
        return message
    return f"{shown(error['input'])} is not allowed: {message}. Correct it, or leave the setting out."


def _problem(name: str, message: str, overrides: dict[str, Any], file: Path | None) -> str:
    variable = _PREFIX + name.upper()
    if name in overrides:
        place = "the argument"
    elif variable in {key.upper() for key in os.environ}:
        place = f"the environment variable {variable}"
    else:
        place = str(file)
    return f"{name} (from {place}): {message}"
