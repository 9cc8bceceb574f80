"""The targets of steps.

`photo_files` decides which files belong to a photo, `target_photos` and `target_projects` iterate over the photos and
projects of a job, `target_projects` decides whether a missing file may count as deleted, and `whereabouts` finds
renamed folders.
"""
