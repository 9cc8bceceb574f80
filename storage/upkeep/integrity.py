"""Checks a database without changing it: the schema, the file itself, orphans and impossible states.

An SQLite file is opened read-only, so that a file can be checked before its first upgrade.
`storage.upkeep.integrity_rules` decides which rows are faulty.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, create_engine, event, inspect
from sqlalchemy.pool import NullPool

from storage.database.driver_errors import storage_error
from storage.database.engine import Database
from storage.database.snapshot import snapshot
from storage.database.tables import metadata
from storage.errors import DatabaseUnavailable, SchemaMismatch, StorageError
from storage.upkeep import legacy
from storage.upkeep.integrity_rules import Rule, Severity, rules_of_rows
from storage.upkeep.revisions import BASELINE, current_revision, head_revision, known_revisions
from storage.upkeep.sqlite_schema import (
    count_rows,
    foreign_key_violations,
    integrity_problems,
    list_objects,
    open_read_only,
    read_table,
)
from storage.upkeep.table_definition import quote
from task_definitions.wording import quantity

#: The maximum number of rows that a finding names.
_EXAMPLES = 5

_UPGRADE = "`photojobs db upgrade` makes a backup and repairs this."
_UPGRADE_POSTGRESQL = "Run `photojobs db backup`, and then `photojobs db upgrade`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An error or a warning about the database.

    Attributes:
        name: the name of the finding, for programs; it never changes.
        table: the table, if the finding is about one table.
        count: the number of affected rows; 0 if the finding is not about rows.
        examples: the keys of the first affected rows.
    """

    name: str
    severity: Severity
    problem: str
    remedy: str
    table: str | None = None
    count: int = 0
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = "" if self.table is None else f"{self.table}: "
        keys = f"{'; the first' if self.count > len(self.examples) else ''}: {', '.join(self.examples)}"
        rows = f" ({quantity(self.count, 'row')}{keys if self.examples else ''})" if self.count else ""
        return f"{self.severity}: {place}{self.problem}{rows}. {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCount:
    """The number of rows of a table, and the numbers by status if it is one of our tables with a column `status`."""

    rows: int
    by_status: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrityReport:
    """The result of a check.

    Attributes:
        database: the URL of the database, with the password masked.
        revision: the revision of the database's schema; None if it has no revision.
        legacy_kinds: for a file of another program, its kinds (see `LegacyKind`); else empty.
        upgrade_changes: the changes that an upgrade would make to the tables that earlier programs know, one sentence
            each.
        findings: errors, followed by warnings.
        counts: the numbers of rows, by table.
    """

    database: str
    revision: str | None
    newest_revision: str
    legacy_kinds: tuple[str, ...] = ()
    upgrade_changes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    counts: Mapping[str, TableCount] = field(default_factory=dict)

    @property
    def is_sound(self) -> bool:
        """Whether there are no errors; warnings are allowed."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)

    @property
    def has_tables(self) -> bool:
        """Whether the database has tables of photojobs, or of a program from before photojobs."""
        return any(name.lower() in metadata.tables for name in self.counts)


def check(database: Database) -> IntegrityReport:
    """Check the file, the schema and the rows of a database, without changing it.

    Raises:
        DatabaseUnavailable: the database or SQLite file does not exist or cannot be opened, or is not a database.
    """
    with _opened(database) as connection:
        findings: list[Finding] = []
        revision = None
        kinds: tuple[str, ...] = ()
        changes: tuple[str, ...] = ()
        counts: dict[str, TableCount] = {}
        try:
            if not database.is_postgresql:
                findings += _damages(connection)
            revision = current_revision(connection)
            counts = _count(connection)
            if revision is not None and revision not in known_revisions():
                problem = (
                    f"the schema {revision} is unknown to this version of photojobs, whose newest is {head_revision()}"
                )
                findings.append(_error("newer_schema", problem, "Upgrade photojobs."))
            else:
                may_be_legacy = revision in (None, BASELINE) and not database.is_postgresql
                if may_be_legacy and (plan := legacy.read_plan(connection, database.url)) is not None:
                    kinds = () if revision is not None else plan.kinds
                    changes = plan.changes
                findings += _schema_findings(connection, revision, counts)
                findings += _row_findings(connection)
        except SchemaMismatch as error:
            findings.append(_error("foreign_schema", str(error), "The check has changed nothing."))
        except StorageError as error:
            if not findings:
                raise
            # A damaged file cannot be read completely. `findings` already has the damage.
            findings.append(
                _error("unreadable", f"the check cannot continue: {error}", "Repair the damage first, and check again.")
            )
    return IntegrityReport(
        database=database.url,
        revision=revision,
        newest_revision=head_revision(),
        legacy_kinds=kinds,
        upgrade_changes=changes,
        findings=tuple(sorted(findings, key=lambda finding: finding.severity is not Severity.ERROR)),
        counts=counts,
    )


@contextmanager
def _opened(database: Database) -> Iterator[Connection]:
    """Open a read-only connection that sees one snapshot."""
    path = database.path
    if database.is_postgresql or path is None:
        with snapshot(database) as connection:
            yield connection
        return
    engine = create_engine("sqlite://", creator=lambda: open_read_only(path), poolclass=NullPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    event.listen(
        engine, "handle_error", lambda context: storage_error(context.original_exception, database.engine), retval=True
    )
    with engine.connect() as connection:
        yield connection


def _error(name: str, problem: str, remedy: str) -> Finding:
    # `problem` may be the message of an exception, which ends with a period. The text of a finding adds a period of its
    # own, so this period is removed.
    return Finding(name=name, severity=Severity.ERROR, problem=problem.rstrip("."), remedy=remedy)


def _damages(connection: Connection) -> list[Finding]:
    remedy = "Copy the file. Then restore a backup, or repair the copy with `.recover` of the sqlite3 program."
    try:
        problems = integrity_problems(connection)
    except DatabaseUnavailable as error:
        if "not a database" in str(error):
            raise
        problems = [str(error)]
    return [_error("damaged_file", f"the file is damaged: {' '.join(problem.split())}", remedy) for problem in problems]


def _schema_findings(
    connection: Connection, revision: str | None, counts: Mapping[str, TableCount]
) -> Iterator[Finding]:
    if revision != head_revision():
        is_empty = all(name.lower() not in metadata.tables for name in counts)
        state = f"has the schema {revision}" if revision else "was never upgraded"
        problem = f"the database {state}; the newest schema is {head_revision()}"
        yield Finding(
            name="older_schema",
            severity=Severity.WARNING,
            problem="the database has no tables of photojobs" if is_empty else problem,
            remedy="Check that it is the right database. `photojobs db upgrade` creates the tables."
            if is_empty
            else (_UPGRADE if connection.dialect.name == "sqlite" else _UPGRADE_POSTGRESQL),
        )
    elif missing := sorted(metadata.tables.keys() - {name.lower() for name in counts}):
        problem = f"the schema lacks {quantity(len(missing), 'table')}: {', '.join(missing)}"
        yield _error("missing_table", problem, "Restore a backup to a new database.")
    elif connection.dialect.name == "sqlite":
        yield from _wrong_references(connection)


def _wrong_references(connection: Connection) -> Iterator[Finding]:
    for name, reference in metadata.tables.items():
        table = read_table(connection, name)
        keys = () if table is None else table.foreign_keys
        for wanted in reference.foreign_keys:
            found = next((key for key in keys if key.column.lower() == wanted.parent.name), None)
            if found is None or (found.table.lower(), found.on_delete) != (wanted.column.table.name, wanted.ondelete):
                target = f"{found.table} ON DELETE {found.on_delete}" if found else "no table"
                yield _error(
                    "wrong_reference",
                    f"{name}.{wanted.parent.name} refers to {target}, but must refer to "
                    f"{wanted.column.table.name} ON DELETE {wanted.ondelete}",
                    f"Run `photojobs db backup`. Then rebuild the table {name} by SQL with the right reference.",
                )


def _row_findings(connection: Connection) -> Iterator[Finding]:
    columns = {name: known for name in metadata.tables if (known := _columns(connection, name))}
    orphans: dict[str, int] = {}
    for table in columns:
        rules = [
            rule
            for rule in rules_of_rows()
            if rule.table == table and rule.dialect in (None, connection.dialect.name) and rule.can_be_checked(columns)
        ]
        if not rules:
            continue
        # One scan of the table checks all rules.
        sums = ", ".join(f"sum(CASE WHEN {rule.condition} THEN 1 ELSE 0 END)" for rule in rules)
        row = connection.exec_driver_sql(f"SELECT {sums} FROM {table}").one()
        for rule, count in zip(rules, row, strict=True):
            if count:
                yield _row_finding(connection, rule, int(count))
                if rule.name == "orphan":
                    orphans[table] = orphans.get(table, 0) + int(count)
    if connection.dialect.name == "sqlite":
        for name, count in foreign_key_violations(connection).items():
            if count > orphans.get(name.lower(), 0):
                yield Finding(
                    name="foreign_key",
                    severity=Severity.ERROR,
                    table=name,
                    count=count,
                    problem="rows refer to rows or tables that do not exist",
                    remedy=_UPGRADE
                    if name.lower() in legacy.BASELINE_TABLES
                    else "The table belongs to another program. With that program or by SQL, delete these rows, or let "
                    "them refer to existing rows.",
                )


def _row_finding(connection: Connection, rule: Rule, count: int) -> Finding:
    keys = ", ".join(metadata.tables[rule.table].primary_key.columns.keys())
    statement = f"SELECT {keys} FROM {rule.table} WHERE {rule.condition} ORDER BY {keys} LIMIT {_EXAMPLES}"
    examples = connection.exec_driver_sql(statement).all()
    return Finding(
        name=rule.name,
        severity=rule.severity,
        table=rule.table,
        count=count,
        problem=rule.problem,
        remedy=rule.remedy,
        examples=tuple("/".join(map(str, example)) for example in examples),
    )


def _columns(connection: Connection, table: str) -> set[str]:
    """Return the names of a table's columns in lower case; an empty set if the table does not exist."""
    if connection.dialect.name == "sqlite":
        found = read_table(connection, table)
        return set() if found is None else set(found.columns)
    if not inspect(connection).has_table(table):
        return set()
    return {column["name"] for column in inspect(connection).get_columns(table)}


def _count(connection: Connection) -> dict[str, TableCount]:
    if connection.dialect.name == "sqlite":
        names = [item.name for item in list_objects(connection) if item.is_table_of_rows]
    else:
        names = [name for name in inspect(connection).get_table_names() if name in metadata.tables]
    return {name: _count_table(connection, name) for name in names if name != "alembic_version"}


def _count_table(connection: Connection, name: str) -> TableCount:
    if name.lower() not in metadata.tables or "status" not in _columns(connection, name):
        return TableCount(rows=count_rows(connection, name))
    statement = f"SELECT coalesce(status, ''), count(*) FROM {quote(name)} GROUP BY 1 ORDER BY 1"
    by_status = {str(status): int(count) for status, count in connection.exec_driver_sql(statement)}
    return TableCount(rows=sum(by_status.values()), by_status=by_status)
