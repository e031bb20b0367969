"""What is decided: pure state machines (`intake`, `linking`, `cases`, `fold`) and the Faust worker that feeds them.

May import `schemas` and `kybstream`; never `ingress` or `sinks`. `batching` is Faust in whole batches and knows nothing of KYB.
"""
