"""Schedules of definitions: a cron text or an interval, in a time zone.

This module checks schedules and computes no times. `deployments/deploying/runner_deployments.py` decides when a
schedule runs, also when clocks change: it passes cron texts to Prefect, which computes their times, and chooses the
beginning and the time zone of intervals. `deployments/deploying/scheduled_definitions.py` decides which definitions
have a schedule.
"""

import zoneinfo
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictStr, model_validator

from task_definitions.cron import check_cron
from task_definitions.wording import did_you_mean

#: The longest interval, retry delay and timeout: one year. A longer value is a mistake, and could overflow.
MAX_SECONDS = 366 * 24 * 60 * 60


def _known_timezone(name: str) -> str:
    if name == "UTC":  # UTC is known even if the system has no time zone data.
        return name
    try:
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("the time zone does not exist") from None
    return name


def did_you_mean_timezone(name: str) -> str:
    """Return ` Did you mean "Europe/Berlin"?` for the nearest time zone; empty if no time zone is similar."""
    return did_you_mean(name, zoneinfo.available_timezones())


class Schedule(BaseModel):
    """The times at which a definition runs automatically: a cron text, or a mapping with these keys.

    Exactly one of `cron` and `interval_seconds` is given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cron: Annotated[StrictStr, AfterValidator(check_cron)] | None = Field(
        default=None,
        description='The times at which the definition runs, as in "0 3 * * *" (daily at 3:00) or "@hourly".',
    )
    interval_seconds: float | None = Field(
        default=None,
        strict=True,
        ge=1,
        le=MAX_SECONDS,
        allow_inf_nan=False,
        description="The seconds between the starts of two runs.",
    )
    timezone: Annotated[StrictStr, AfterValidator(_known_timezone)] = Field(
        default="UTC", description='The IANA time zone of the schedule, as in "Europe/Berlin".'
    )

    @model_validator(mode="before")
    @classmethod
    def _from_cron_text(cls, value: Any) -> Any:
        return {"cron": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_kind(self) -> "Schedule":
        if (self.cron is None) == (self.interval_seconds is None):
            raise ValueError("exactly one of cron and interval_seconds is needed")
        return self

    def to_mapping(self) -> Mapping[str, Any]:
        """Return the schedule in the form of a definition file."""
        return self.model_dump(mode="json", exclude_none=True)
