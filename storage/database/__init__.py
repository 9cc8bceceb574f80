"""Opens databases: engines, sessions, tables, column types, time, and the differences of SQLite and PostgreSQL."""
