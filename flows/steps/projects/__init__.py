"""Steps that work on whole projects: names of folders, manifests, discovery, missing folders and deletion."""
