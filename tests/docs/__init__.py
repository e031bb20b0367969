"""The documentation: its commands are run, its examples compared, its links followed, its reference generated."""
