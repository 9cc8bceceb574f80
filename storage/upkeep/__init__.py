"""Keeping the database: migrations, upgrades of legacy files, integrity, backups, and pruning of what is old."""
