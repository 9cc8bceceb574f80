"""Maintenance of the database: migrations, upgrades of legacy files, integrity checks, backups, and pruning."""
