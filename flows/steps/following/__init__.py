"""The steps by which rows follow what users did to files by hand: new, moved and missing photos."""
