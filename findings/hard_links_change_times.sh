#!/usr/bin/env bash
# A backup by hard links changes the change time of every photo, and so does deleting that backup, though no photo is written.
#
# Guess: size, modification time and change time (ctime) together say whether a file is still the one that was read: ctime
#     changes when contents, owner or permissions do, and no program can set it back. Readers leave it alone, above all
#     backups.
# Behaviour: the number of links is part of the inode. `cp -al`, which snapshots by rsync and rsnapshot begin with, gives each
#     file a new ctime, and so does the removal of the oldest snapshot. A rename does, too, but not the rename of the
#     folder above. A cache that takes another ctime for another picture makes all of them anew after each backup; one
#     that leaves ctime out takes a file whose mtime was set back, as by exiftool -P or rsync -t, for the old one.
# Versions: Linux with ext4, XFS, Btrfs or tmpfs; GNU coreutils 9.
# Date: 2026-11-28.
# Source: POSIX.1-2024, link() and unlink(): "shall mark for update the last file status change timestamp of the file"; the
#     same is left open for rename(), and Linux file systems do it: inode_set_ctime_current in ext4_rename.
# Covered by: storage/photos/originals.py: the content hash decides where only the times differ;
#     tests/flows/imaging/test_source_fingerprint.py.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir -p library/alps
head -c 100000 /dev/zero > library/alps/a.jpg

state() { stat --format='size %s, mtime %y, inode %i' "$1" && sha256sum < "$1"; }
changed() { # The words of what is done, the photo after it, and the command; says whether ctime changed.
    local words=$1 photo=$2 before before_ctime
    shift 2
    before=$(state library/alps/a.jpg) before_ctime=$(stat --format=%z library/alps/a.jpg)
    sleep 0.05 # longer than the clock of file times takes for a step
    "$@"
    [ "$(state "$photo")" = "$before" ] || { echo "$words: contents, size, mtime or inode changed"; exit 1; }
    answer=same
    [ "$(stat --format=%z "$photo")" = "$before_ctime" ] || answer=new
    echo "$words: $answer ctime; contents, size and mtime are the same"
}

photo=library/alps/a.jpg
changed "read the file" "$photo" sha256sum "$photo" && [ "$answer" = same ]
changed "backup by hard links" "$photo" cp -al library snapshot && [ "$answer" = new ]
changed "remove that backup" "$photo" rm -r snapshot && [ "$answer" = new ]
changed "rename the folder" library/andes/a.jpg mv library/alps library/andes && [ "$answer" = same ]
mv library/andes library/alps
changed "rename the file" library/alps/b.jpg mv "$photo" library/alps/b.jpg && [ "$answer" = new ]
