"""Databases: engines, sessions, tables, column types, time, and what differs between SQLite and PostgreSQL."""
