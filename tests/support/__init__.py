"""What tests share: real servers as fixtures, and waiting for conditions. Imported by tests only."""
