"""Maintains the database: migrations, upgrades of files of other programs, integrity checks, backups, and pruning.

`schema_upgrade.py` upgrades every database, and `legacy.py` decides what an upgrade changes in another program's file.
`revisions.py` decides whether this version of photojobs can use the schema of a database. `retention.py` decides which
rows are pruned.
"""
