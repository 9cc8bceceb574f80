"""Opens databases: engines, sessions, tables, column types, time, and the differences between SQLite and PostgreSQL.

`engine.py` opens databases and begins transactions, `tables` declares the tables, and `driver_errors.py` decides which
error of `storage.errors` an error of a driver becomes.
"""
