"""Upgrades an older SQLite file to our first revision, inside the caller's transaction. Every row and id is kept.

If a table needs more than new columns, its rows are copied to a new table, as SQLite's documentation recommends. The
new table then gets the old table's name, so that other tables, views and triggers still refer to the right table.
"""

from sqlalchemy import Connection

from storage.database.database_url import shown_url
from storage.errors import SchemaMismatch
from storage.upkeep.legacy import (
    BASELINE_TABLES,
    LegacyPlan,
    TablePlan,
    is_outdated_check,
    kept_index_name,
    missing_unique,
    reference_schema,
)
from storage.upkeep.legacy_jobs import LEGACY_JOBS, LegacyJobs
from storage.upkeep.orphaned_rows import repair_orphans
from storage.upkeep.sqlite_schema import (
    Column,
    SchemaObject,
    TableSchema,
    count_rows,
    foreign_key_violations,
    integrity_problems,
    list_objects,
    read_table,
)
from storage.upkeep.table_definition import ColumnDefinition, TableConstraint, TableDefinition, quote, rename_identifier
from task_definitions.wording import quantity


def adopt(connection: Connection, plan: LegacyPlan, now: str) -> dict[str, int]:
    """Upgrade the file to our first revision as planned; return the number of added rows, by table.

    The caller must begin the transaction with foreign keys off and `legacy_alter_table` on, drop the triggers before
    the call, and create them again afterwards.
    """
    gained: dict[str, int] = {}
    sequences = _read_sequences(connection)
    for table in plan.tables:
        if table.existing is None:
            connection.exec_driver_sql(table.reference.sql)
        elif table.reasons:
            _rebuild(connection, table)
        else:
            for column in table.added:
                text = _definition_text(table.reference, column.name)
                connection.exec_driver_sql(f"ALTER TABLE {quote(table.existing.name)} ADD COLUMN {text}")
    if plan.legacy_jobs is not None:
        gained["jobs"] = _merge(connection, plan.legacy_jobs)
    for name, count in repair_orphans(connection, now).items():
        gained[name] = gained.get(name, 0) + count
    if plan.legacy_jobs is not None and plan.legacy_jobs.is_dropped:
        connection.exec_driver_sql(f"DROP TABLE {quote(plan.legacy_jobs.table.name)}")
    _make_indexes(connection, plan)
    _write_sequences(connection, sequences)
    return gained


def take_triggers(connection: Connection) -> list[SchemaObject]:
    """Drop and return the triggers of the tables that other programs use, so that the upgrade fires none."""
    tables = {*BASELINE_TABLES, LEGACY_JOBS}
    triggers = [item for item in list_objects(connection) if item.type == "trigger" and item.table.lower() in tables]
    for trigger in triggers:
        connection.exec_driver_sql(f"DROP TRIGGER {quote(trigger.name)}")
    return triggers


def put_triggers_back(connection: Connection, triggers: list[SchemaObject]) -> None:
    """Create the triggers again; if `jobs_legacy` was dropped, they refer to `jobs` instead."""
    gone = read_table(connection, LEGACY_JOBS) is None
    for trigger in triggers:
        connection.exec_driver_sql(rename_identifier(trigger.sql, LEGACY_JOBS, "jobs") if gone else trigger.sql)


def count_all_rows(connection: Connection) -> dict[str, int]:
    """Return the number of rows of each table in the file, including tables of other programs."""
    return {item.name: count_rows(connection, item.name) for item in list_objects(connection) if item.is_table_of_rows}


def verify(
    connection: Connection, *, before: dict[str, int], gained: dict[str, int], violations: dict[str, int]
) -> None:
    """Raise `SchemaMismatch` if a row was lost or the file is not sound; the caller then rolls back.

    Violations that tables of other programs had before the upgrade are allowed.
    """
    place = shown_url(connection.engine.url)
    after = count_all_rows(connection)
    before = {name: count for name, count in before.items() if name != "alembic_version"}
    gained = {name.lower(): count for name, count in gained.items()}
    for name, count in before.items():
        is_gone = name not in after and name.lower() == LEGACY_JOBS
        if not is_gone and after.get(name, 0) != count + gained.get(name.lower(), 0):
            raise SchemaMismatch(
                f"{place}: {name}: the row count would change from {count} to {after.get(name, 0)}; nothing was "
                "changed. Please report this."
            )
    for name, count in foreign_key_violations(connection).items():
        if name.lower() in BASELINE_TABLES or count > violations.get(name, 0):
            raise SchemaMismatch(
                f"{place}: {name}: references of {quantity(count, 'row')} would be broken; nothing was changed. "
                "Please report this."
            )
    problems = integrity_problems(connection)
    if problems:
        raise SchemaMismatch(
            f"{place}: the upgraded file would not be sound: {problems[0]}; nothing was changed. Please report this."
        )


def _rebuild(connection: Connection, plan: TablePlan) -> None:
    existing = plan.existing
    assert existing is not None  # noqa: S101 - only a table that exists has reasons.
    own_indexes = [index.sql for index in existing.indexes if index.sql is not None]
    new_name = _free_name(connection, f"photojobs_new_{plan.name}")
    connection.exec_driver_sql(_new_definition(plan, existing).create_statement(new_name))
    columns = existing.stored_columns
    values = ", ".join(_value(plan, name) for name in columns)
    names = ", ".join(map(quote, columns))
    connection.exec_driver_sql(f"INSERT INTO {quote(new_name)} ({names}) SELECT {values} FROM {quote(existing.name)}")
    connection.exec_driver_sql(f"DROP TABLE {quote(existing.name)}")
    connection.exec_driver_sql(f"ALTER TABLE {quote(new_name)} RENAME TO {quote(existing.name)}")
    for sql in own_indexes:
        connection.exec_driver_sql(sql)


def _new_definition(plan: TablePlan, existing: TableSchema) -> TableDefinition:
    old = existing.definition
    references = {key.column for key in plan.reference.foreign_keys}
    columns = []
    for column in old.columns:
        if column.name.lower() in plan.replaced:
            column = ColumnDefinition(column.name, _definition_text(plan.reference, column.name.lower()))
        elif column.name.lower() in plan.nullable:
            column = ColumnDefinition(column.name, column.text_with_null)
        elif column.name.lower() in plan.defaulted:
            default = _neutral_value(existing.columns[column.name.lower()])
            column = ColumnDefinition(column.name, f"{column.text} DEFAULT {default}")
        columns.append(column)
    columns += [ColumnDefinition(column.name, _definition_text(plan.reference, column.name)) for column in plan.added]
    constraints = [part for part in old.constraints if not _is_superseded(part, plan, references)]
    # A column that does not change keeps its foreign key, which may be in the text of the column. So foreign keys are
    # added only for changed and new columns that have no foreign key in `constraints`.
    stated = {column for part in constraints if part.kind == "FOREIGN" for column in map(str.lower, part.columns)}
    changed = plan.replaced.union(column.name for column in plan.added)
    constraints += [
        part
        for part in plan.reference.definition.constraints
        if part.kind == "FOREIGN" and part.columns[0] in changed - stated
    ]
    options = tuple(
        option for option in old.options if not ("id" in plan.replaced and option.upper() == "WITHOUT ROWID")
    )
    return TableDefinition(tuple(columns), tuple(constraints), options)


def _is_superseded(part: TableConstraint, plan: TablePlan, references: set[str]) -> bool:
    if is_outdated_check(part, plan.reference):
        return True
    columns = {column.lower() for column in part.columns}
    if part.kind == "FOREIGN":
        return bool(columns & references & plan.replaced)
    return part.kind == "PRIMARY" and "id" in plan.replaced


def _definition_text(reference: TableSchema, name: str) -> str:
    if name == "id":
        return "id INTEGER PRIMARY KEY AUTOINCREMENT"
    return next(column.text for column in reference.definition.columns if column.name == name)


def _value(plan: TablePlan, name: str) -> str:
    reference = plan.reference.columns.get(name.lower())
    if reference is not None and reference.is_required and reference.default is not None:
        return f"coalesce({quote(name)}, {reference.default})"
    return quote(name)


def _neutral_value(column: Column) -> str:
    type_ = column.type.upper()
    return "0" if any(word in type_ for word in ("INT", "REAL", "FLOA", "DOUB", "NUM", "DEC", "BOOL")) else "''"


def _merge(connection: Connection, plan: LegacyJobs) -> int:
    legacy = quote(plan.table.name)
    for name in plan.extra_columns:
        type_ = plan.table.columns[name.lower()].type
        connection.exec_driver_sql(f"ALTER TABLE jobs ADD COLUMN {quote(name)} {type_}")
        connection.exec_driver_sql(
            f"UPDATE jobs SET {quote(name)} = (SELECT old.{quote(name)} FROM {legacy} AS old WHERE old.id = jobs.id)"
        )
    jobs = read_table(connection, "jobs")
    assert jobs is not None  # noqa: S101 - it was created before this if it was missing.
    reference = reference_schema("0001").tables["jobs"]
    values: dict[str, str] = {}
    for name, column in jobs.columns.items():
        known = reference.columns.get(name)
        # The new value is the old value or, if that is missing or NULL, the default.
        choices = [quote(name)] if name in plan.table.columns else []
        if known is not None and known.is_required and known.default is not None:
            choices.append(known.default)
        if choices and not column.is_generated:
            values[quote(column.name)] = f"coalesce({', '.join(choices)})" if len(choices) > 1 else choices[0]
    return connection.exec_driver_sql(
        f"INSERT INTO jobs ({', '.join(values)}) SELECT {', '.join(values.values())} FROM {legacy} AS old "
        "WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = old.id)"
    ).rowcount


def _make_indexes(connection: Connection, plan: LegacyPlan) -> None:
    for index in plan.renamed_indexes:
        assert index.sql is not None  # noqa: S101 - SQLite names an index without SQL itself; it is never renamed.
        new_name = _free_name(connection, kept_index_name(index.name))
        connection.exec_driver_sql(f"DROP INDEX {quote(index.name)}")
        connection.exec_driver_sql(rename_identifier(index.sql, index.name, new_name, count=1))
    for index in plan.missing_indexes:
        if index.sql is not None:
            new_name = _free_name(connection, index.name)
            connection.exec_driver_sql(rename_identifier(index.sql, index.name, new_name, count=1))
    for table, columns in missing_unique(connection):
        name = _free_name(connection, f"uq_{table}_{'_'.join(columns)}")
        connection.exec_driver_sql(f"CREATE UNIQUE INDEX {quote(name)} ON {table} ({', '.join(columns)})")


def _free_name(connection: Connection, name: str) -> str:
    taken = {item.name.lower() for item in list_objects(connection)}
    while name.lower() in taken:
        name += "_"
    return name


def _read_sequences(connection: Connection) -> dict[str, int]:
    if connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").first() is None:
        return {}
    rows = connection.exec_driver_sql("SELECT lower(name), max(seq) FROM sqlite_sequence GROUP BY 1")
    sequences = {str(name): int(seq or 0) for name, seq in rows}
    # A new job must not get an id that `jobs_legacy` has used.
    if LEGACY_JOBS in sequences:
        sequences["jobs"] = max(sequences.get("jobs", 0), sequences[LEGACY_JOBS])
    return sequences


def _write_sequences(connection: Connection, sequences: dict[str, int]) -> None:
    for name in BASELINE_TABLES:
        table = read_table(connection, name)
        if name not in sequences or table is None or "AUTOINCREMENT" not in table.sql.upper():
            continue
        current = connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE lower(name) = ?", (name,)).scalar()
        if current is None:
            values = (table.name, sequences[name])
            connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", values)
        elif int(current) < sequences[name]:
            statement = "UPDATE sqlite_sequence SET seq = ? WHERE lower(name) = ?"
            connection.exec_driver_sql(statement, (sequences[name], name))
