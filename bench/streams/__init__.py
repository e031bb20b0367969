"""What the batch plumbing and the worker cost, beside plain aiokafka and quixstreams in the same run: `make bench-streams`."""
