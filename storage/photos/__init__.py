"""The rows of projects, photos, tags, originals and derivatives, and selections of photos."""
