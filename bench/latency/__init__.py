"""From a webhook that is sent to the row that can be queried, everything on this machine."""
