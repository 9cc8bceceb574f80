"""Compares a fresh plan with a saved one, and describes the differences.

`flows.api.saved_plan_run` decides which projects and photos are left out because of a difference.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from flows.planning.changes import Change
from flows.planning.plan import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A project, folder or photo of a saved plan that is left out when the plan is run.

    Attributes:
        name: the name of the project, folder or photo for readers.
        reason: the first difference from the saved plan.
    """

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference between the changes of two plans. At least one of `saved` and `fresh` is set."""

    saved: Change | None
    fresh: Change | None

    @property
    def change(self) -> Change:
        """The saved change, or the fresh change if there is no saved one."""
        change = self.saved or self.fresh
        assert change is not None  # noqa: S101 - at least one change is set.
        return change

    def reason(self, *, cause: str | None = None) -> str:
        """Return the difference as a clause without a period.

        `cause` is a clause that explains why the fresh plan lacks a change of the saved one, if this is known.
        """
        saved, fresh = self.saved, self.fresh
        if saved is None:
            assert fresh is not None  # noqa: S101 - at least one change is set.
            return f"the plan does not contain this change: {_in_words(fresh)}"
        if fresh is None:
            return f"the run would no longer make this change: {_in_words(saved)}" + (f"; {cause}" if cause else "")
        if (saved.action, saved.path, saved.row) != (fresh.action, fresh.path, fresh.row):
            return f"the plan has the change: {_in_words(saved)}; the run would now make: {_in_words(fresh)}"
        if saved.size_bytes != fresh.size_bytes:
            return f"{saved.path} has changed: it had {saved.size_bytes} bytes, and now has {fresh.size_bytes}"
        if saved.mtime_ns != fresh.mtime_ns:
            return f"{saved.path} was written to after the plan was made"
        if saved.project != fresh.project:
            return f"project {saved.project} is called {fresh.project} now"
        if saved.path is not None and saved.target != fresh.target:
            return f"{saved.path} would now become {fresh.target}"
        if saved.path is not None:
            return f"the run would now make the change of {saved.path} in another way"
        if saved.table == "photo_derivatives" and "source_name" in fresh.columns:
            return f"{fresh.columns['source_name'][1]} was written to after the plan was made"
        return f"row {saved.row} of the table {saved.table} has changed since the plan was made"


class Comparison:
    """Compares the changes of two plans, in a temporary database to save memory. Use it as a context manager."""

    def __init__(self, scratch: Path) -> None:
        self._connection = sqlite3.connect(scratch, isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):
            self._connection.execute(f"PRAGMA {pragma}")
        for table in ("saved", "fresh"):
            self._connection.execute(f"CREATE TABLE {table} (digest BLOB, owner, photo, step, line)")
            self._connection.execute(f"CREATE INDEX {table}_digests ON {table} (digest)")

    def add(self, change: Change, *, to: Literal["saved", "fresh"]) -> None:
        """Add a change to the saved plan, or to the fresh plan that is compared with it."""
        line = change.to_json()
        digest = hashlib.blake2b(line.encode(), digest_size=16).digest()
        owner = change.project if change.project_id is None else f"#{change.project_id}"
        row = (digest, owner, change.photo, change.step, line)
        self._connection.execute(f"INSERT INTO {to} VALUES (?, ?, ?, ?, ?)", row)

    def forget_fresh(self) -> None:
        """Discard the changes of the fresh plan."""
        self._connection.execute("DELETE FROM fresh")

    def differences(self) -> Iterator[Difference]:
        """Yield one difference for each combination of owner, photo and step whose changes differ between the plans.

        The differences are in order of owner, then photo, then step.
        """
        statement = """
            SELECT owner, photo, min(step), min(CASE WHEN is_saved THEN line END),
                min(CASE WHEN NOT is_saved THEN line END)
            FROM (
                SELECT owner, photo, step, line, 1 AS is_saved FROM saved
                WHERE (SELECT count(*) FROM fresh WHERE fresh.digest = saved.digest)
                    < (SELECT count(*) FROM saved AS same WHERE same.digest = saved.digest)
                UNION ALL
                SELECT owner, photo, step, line, 0 FROM fresh
                WHERE (SELECT count(*) FROM saved WHERE saved.digest = fresh.digest)
                    < (SELECT count(*) FROM fresh AS same WHERE same.digest = fresh.digest)
            ) GROUP BY owner, photo, step ORDER BY owner, photo, step"""
        for *_, saved, fresh in self._connection.execute(statement).fetchall():
            yield Difference(
                saved=None if saved is None else Change.from_json(saved),
                fresh=None if fresh is None else Change.from_json(fresh),
            )

    def __enter__(self) -> Self:
        self._connection.execute("BEGIN")
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _in_words(change: Change) -> str:
    what = counted({change.action: 1}).removeprefix("1 ")
    return f"{change.describe()} ({what})"
