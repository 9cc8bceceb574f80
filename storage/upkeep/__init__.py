"""Maintains the database: migrations, upgrades of files of other programs, integrity checks, backups, and pruning."""
