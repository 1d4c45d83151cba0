"""Measurements that print. Run from the repository: `make bench`."""
