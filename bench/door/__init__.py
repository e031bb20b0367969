"""What the ingress costs, beside a bare aiohttp echo measured in the same run: `make bench-ingress`."""
