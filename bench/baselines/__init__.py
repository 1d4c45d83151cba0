"""Bridges between the same WebSocket messages and the same RPC as a competent user would write them."""
