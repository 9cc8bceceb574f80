"""Steps that move, rename or remove files of photos.

`image_move` moves photos to another project, `duplicate_resolution` renames photos, `file_removal` moves files to the
trash, and `trash_maintenance` empties the trash.
"""
