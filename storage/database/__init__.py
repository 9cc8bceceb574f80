"""Databases: engines, sessions, tables, column types, time, and the differences between SQLite and PostgreSQL."""
