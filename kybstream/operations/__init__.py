"""What operators do with a running pipeline: migrate, register links, tail, reconcile. The command line is a thin layer on it.

May import everything but `kybstream.cli`.
"""
