"""Commands for the installation: init, doctor, demo, library, db, completion; up, serve and worker are in `service`."""
