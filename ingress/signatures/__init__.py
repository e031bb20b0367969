"""The signature schemes, one module each, behind one interface: `verifier.Verifier`.

`build.build_verifier` makes the one that a source's settings name. Nothing here does I/O or reads a clock.
"""
