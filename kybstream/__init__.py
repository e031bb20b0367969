"""The application's own ground: settings, errors, ids, telemetry, privacy, and the command line.

Everything but `kybstream.cli` may be imported by every other folder, and imports none of them.
"""
