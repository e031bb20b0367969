"""The campaign: three brokers, two each of ingress, worker and sink, a constant load, and faults drawn from a seed.

`site` runs everything, `load` sends, `faults` break things, `probes` time how long each takes to come right, `verdict` compares
the outcome with the plan and with a model, `page` writes docs/reliability.md. `make chaos` runs it.
"""
