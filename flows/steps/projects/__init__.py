"""Steps that work on whole projects.

`folder_discovery` finds new and renamed folders. `folder_alignment` renames folders. `manifest_check` writes manifests
and marks missing files. `orphaned_projects` archives projects without a folder. `project_deletion` deletes projects.
"""
