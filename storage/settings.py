"""The settings: environment (`PHOTOJOBS_…`) over `photojobs.toml` over defaults, each checked and named when wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from typing_extensions import override

from storage.default_tenant import DEFAULT_TENANT
from storage.errors import StorageError
from storage.library.companions import CompanionNames
from storage.library.ignored_names import DEFAULT_IGNORED_NAMES
from storage.library.kinds import JPG_EXTENSIONS, OTHER_EXTENSIONS, RAW_EXTENSIONS
from task_definitions.foreign_documents import (
    Bounds,
    UnreadableDocument,
    parse_json,
    parse_toml,
    read_foreign_file,
)

#: The file with settings, looked for in the working folder unless `PHOTOJOBS_CONFIG` names another.
SETTINGS_FILE = "photojobs.toml"

_PREFIX = "PHOTOJOBS_"
_MAX_FILE_BYTES = 256 * 1024
_BOUNDS = Bounds(max_bytes=_MAX_FILE_BYTES)
#: Variables with our prefix that are no settings.
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
    """A setting is unknown or has an impossible value; the message names it and where it came from."""


class Settings(BaseSettings):
    """Everything that can be set. A field's environment variable is `PHOTOJOBS_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True, validate_default=False)

    database_url: SecretStr = Field(
        SecretStr("sqlite:///photojobs.db"),
        description="SQLAlchemy URL of the database, secret as a whole.",
    )
    library_root: Path = Field(Path("library"), description="Folder that holds `<tenant>/<project_folder>/`.")
    definitions: Path | None = Field(None, description="File or folder of definitions beside the built-in ones.")

    heartbeat_seconds: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="How often a running job says that it is alive; at most a third of `stale_seconds`.",
    )
    stale_seconds: float = Field(
        60.0, gt=0, le=86_400, description="A running job silent for so long is rescued; at least three heartbeats."
    )
    poll_seconds: float = Field(
        0.5, gt=0, le=3600, description="How often an idle executor looks for work where nothing wakes it."
    )
    max_attempts: int = Field(3, ge=1, le=100, description="Attempts of a job where neither it nor its step says.")
    retry_delay_seconds: float = Field(
        5.0, ge=0, le=86_400, description="Wait before the second attempt; doubles with each further one, with jitter."
    )
    max_retry_delay_seconds: float = Field(3600.0, ge=0, le=604_800, description="Longest wait between two attempts.")
    concurrency: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=1, le=256, description="Jobs that one process runs at a time."
    )
    max_flow_runs: int = Field(
        default_factory=lambda: max(8, os.cpu_count() or 1),
        ge=1,
        le=1000,
        description="Flow runs that `photojobs up` and `serve` run at a time, each in a process of its own, those that "
        "wait for a hold or a retry among them; further ones wait in Prefect.",
    )
    drain_seconds: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="How long a stop may take; a worker has the jobs that still run handed back in the last 5 seconds.",
    )
    window_size: int = Field(
        100,
        ge=1,
        le=10_000,
        description="Jobs of one step that a run follows at a time, beside those that cannot begin; at most 500.",
    )
    task_runner: Literal["threads", "prefect", "dask"] = Field(
        "threads",
        description="Where flow runs run jobs: in threads of their own process, there but with every task run in the "
        "hands of Prefect's own task engine, or in a Dask cluster (extra `dask`).",
    )
    dask_address: str | None = Field(
        None, description="Scheduler of a Dask cluster; without it each flow run starts a cluster on its machine."
    )
    dask_workers: int = Field(2, ge=1, le=256, description="Processes of a Dask cluster that a flow run starts.")

    schedules: dict[str, str | dict[str, Any]] = Field(
        {},
        description="Schedules by definition in place of its own: a cron text, a mapping as in a definition file, or "
        '"off". Without it maintenance_global runs at 3:00, folder_discovery every hour, verify_originals on Saturdays '
        "at 5:00, and project_scavenge_global on Sundays at 4:00, all in UTC.",
    )
    tenant: str = Field(
        DEFAULT_TENANT, min_length=1, max_length=255, description="Whose photos commands work on where nobody is named."
    )
    scheduled_tenants: tuple[str, ...] = Field(
        (DEFAULT_TENANT,), description="Tenants for which scheduled definitions run."
    )

    log_format: Literal["text", "json"] = Field(
        "text", description="How processes that run jobs write their logs: for people, or a JSON object a line."
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="Where `photojobs up` and `worker` answer Prometheus; 0 is any free port. Without it they do not.",
    )
    metrics_host: str = Field(
        "127.0.0.1", description="The address of the metrics; anything but the loopback lets other machines read them."
    )

    server_hosts: tuple[str, ...] = Field(
        (),
        description="Names by which browsers reach the server of `photojobs up` besides the loopback, as behind a "
        "proxy. Requests for any other name are refused.",
    )

    trash_ttl_seconds: int = Field(86_400, ge=0, description="How long a file stays in `.trash` before it is removed.")
    missing_grace_seconds: int = Field(
        604_800,
        ge=0,
        description="How long all files of a photo must have been missing before manifest_cleaning removes its row, "
        "and the folder of a project before orphaned_project_cleanup removes its rows.",
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
        description="What duplicate_resolution, folder_alignment and folder_discovery do with a base name that another "
        "project has, with a folder that is not called as its project, and, in an SQLite file of another program, with "
        "a new folder of a name that another tenant's project has: report it, or rename it.",
    )
    merge_folders: bool = Field(
        False,
        description="Whether folder_discovery moves the files of a folder into the project that it is a copy of, or "
        "whose name it has, if they share photos; never if two files of one name differ. Without it the folder is a "
        "project of its own.",
    )
    ignored_names: tuple[str, ...] = Field(
        DEFAULT_IGNORED_NAMES,
        description="Files and folders that systems keep for themselves, which are no tenants, projects or photos; in "
        "any case, with `*` for any text.",
    )
    companion_patterns: tuple[str, ...] = Field(
        (),
        description="Further names of files that belong to photos, such as `{base}-edit.psd` or `Edits/{file}.*`: "
        "`{base}` is a photo's base name, `{file}` the name of one of its images, `*` any text, `?` one character.",
    )
    thumbnail_pixels: int = Field(800, ge=16, le=16_383, description="Longest edge of a thumbnail, in pixels.")
    thumbnail_quality: int = Field(50, ge=1, le=100, description="WebP quality of a thumbnail.")
    preview_pixels: int = Field(5000, ge=16, le=16_383, description="Longest edge of a preview, in pixels.")
    preview_quality: int = Field(60, ge=1, le=100, description="WebP quality of a preview.")
    webp_effort: int = Field(2, ge=0, le=6, description="WebP effort: higher is slower and smaller.")
    max_image_megapixels: int = Field(500, ge=1, description="Larger images fail instead of being decoded.")
    image_seconds: float = Field(120.0, gt=0, description="Longest time that decoding one image may take.")
    settle_seconds: float = Field(
        5.0,
        ge=0,
        le=86_400,
        description="A file that cannot be read fails only if it has not changed for so long; else it waits for the "
        "next run, as it may still be copied.",
    )
    image_memory_megabytes: int = Field(
        6144, ge=1024, description="Most address space of an image process; what needs more fails. Linux only."
    )
    image_isolation: bool = Field(
        True, description="Decode in processes of their own, so that a crashing decoder costs one item."
    )

    @field_validator("companion_patterns")
    @classmethod
    def _patterns_can_be_read(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        CompanionNames((), patterns)
        return patterns

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """The settings of this process; `overrides` come before the environment.

        Raises:
            InvalidSettings: an unknown name or an impossible value; every one is named with where it came from.
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
                _problem(str(item["loc"][0]), item["msg"], overrides, file)
                for item in error.errors()
                # They are among the problems already.
                if item["type"] != "extra_forbidden" or item["loc"][0] in overrides
            ]
        if problems:
            raise InvalidSettings("\n".join(problems))
        if settings.stale_seconds < 3 * settings.heartbeat_seconds:
            raise InvalidSettings(
                f"stale_seconds: {settings.stale_seconds:g} is less than three heartbeats of "
                f"{settings.heartbeat_seconds:g} s, so a job that is alive could be taken for dead; raise it"
            )
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
        """Arguments, then the environment, then the file."""
        file = settings_file()
        environment = _Environment(settings_cls)
        if file is None:
            return (init_settings, environment)
        return (init_settings, environment, InitSettingsSource(settings_cls, _document_of(file)))


def settings_file() -> Path | None:
    """The settings file in use, or None where there is none.

    Raises:
        InvalidSettings: `PHOTOJOBS_CONFIG` names a file that does not exist.
    """
    named = os.environ.get("PHOTOJOBS_CONFIG")
    if named is None:
        return Path(SETTINGS_FILE) if Path(SETTINGS_FILE).is_file() else None
    if not Path(named).is_file():
        raise InvalidSettings(f"PHOTOJOBS_CONFIG: {named} is not a file")
    return Path(named)


def _unknown_keys(file: Path) -> list[str]:
    document = _document_of(file)
    return [f"{file}: {key}: is not a setting" + _similar(key) for key in document if key not in Settings.model_fields]


def _document_of(file: Path) -> dict[str, Any]:
    try:
        return parse_toml(read_foreign_file(file, max_bytes=_MAX_FILE_BYTES), source=str(file), bounds=_BOUNDS)
    except UnreadableDocument as error:
        raise InvalidSettings(str(error)) from None


class _Environment(EnvSettingsSource):
    """Variables; the JSON of those that hold lists and mappings is parsed within bounds."""

    @override
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        variable = _PREFIX + field_name.upper()
        try:
            return parse_json(value, source=variable, bounds=_BOUNDS)
        except UnreadableDocument as error:
            raise InvalidSettings(str(error)) from None


def _similar(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, Settings.model_fields, n=1)
    return f'. Did you mean "{close[0]}"?' if close else ". `photojobs --help` names the settings."


def _problem(name: str, message: str, overrides: dict[str, Any], file: Path | None) -> str:
    variable = _PREFIX + name.upper()
    if name in overrides:
        place = "the argument"
    elif variable in {key.upper() for key in os.environ}:
        place = f"the environment variable {variable}"
    else:
        place = str(file)
    return f"{name} (from {place}): {message}"
