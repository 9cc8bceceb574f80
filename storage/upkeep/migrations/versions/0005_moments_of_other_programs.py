"""Converts times that other programs write in other formats to ours, so that SQLite sorts them correctly.

`2025-10-01 12:00:00`, from `datetime('now')`, sorts before every `2025-10-01T…`, and texts with offsets do not sort by
time. PostgreSQL has a type for times and needs no change. A text that is not a time is unchanged; `photojobs db check`
reports it.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

#: The columns that claims, rescues, listings and pruning compare.
COLUMNS = ("created_at", "started_at", "finished_at", "heartbeat_at", "run_after")

DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
OURS = f"{DAY}T[0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9]Z"


def in_our_form(column: str) -> str:
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {column})"


def is_foreign(column: str) -> str:
    return f"({column} NOT GLOB '{OURS}' AND {column} GLOB '{DAY}*' AND {in_our_form(column)} IS NOT NULL)"


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    for column in COLUMNS:
        op.execute(f"UPDATE jobs SET {column} = {in_our_form(column)} WHERE {is_foreign(column)}")
    changes = ", ".join(
        f"{column} = CASE WHEN {is_foreign(column)} THEN {in_our_form(column)} ELSE {column} END" for column in COLUMNS
    )
    condition = " OR ".join(is_foreign(f"NEW.{column}") for column in COLUMNS)
    for name, event in (("inserted", "INSERT"), ("updated", f"UPDATE OF {', '.join(COLUMNS)}")):
        op.execute(
            f"CREATE TRIGGER photojobs_moments_{name} AFTER {event} ON jobs WHEN {condition} "
            f"BEGIN UPDATE jobs SET {changes} WHERE id = NEW.id; END"
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER photojobs_moments_inserted")
        op.execute("DROP TRIGGER photojobs_moments_updated")
