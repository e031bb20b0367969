"""Tests, in folders that mirror the code's; `support` holds real servers as fixtures."""
