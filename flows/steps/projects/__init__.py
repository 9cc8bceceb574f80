"""Steps that work on whole projects: folder names, manifests, discovery of folders, missing folders and deletion."""
