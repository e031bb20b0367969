"""Tests of the ingress, against real brokers."""
