"""Steps that update rows after users changed files by hand: new, moved and missing photos."""
