"""The loop at a glance, in a browser."""
