"""Tests of the embedded stack and of the files that deploy the real one."""
