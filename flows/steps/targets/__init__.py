"""The targets of steps.

`photo_files` finds all files of a photo. `target_photos` iterates over the photos of a job.
`target_projects` iterates over the projects of a job, and decides whether a missing file may count as deleted.
`whereabouts` finds renamed folders.
"""
