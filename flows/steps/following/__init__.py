"""Steps that update rows after users changed files by hand: `folder_check` and `manifest_cleaning`.

`arrivals` decides what becomes of a file without a row: a new photo, or a photo that a user moved (`moved_by_hand`).
"""
