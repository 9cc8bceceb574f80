"""The steps that work on whole projects: folders, manifests, discovery, orphans and deletion."""
