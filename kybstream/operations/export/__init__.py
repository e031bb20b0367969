"""`kyb-stream export`: the event log of all cases as a file for process-mining tools.

`log` reads the view `event_log` in order; `xes` and `ocel` turn its rows into text, one case in memory at a time. Persons are
pseudonyms in the view already, and nothing here knows a key.
"""
