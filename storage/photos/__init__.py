"""Projects, photos, tags, originals and derivatives as rows; and which photos a caller means."""
