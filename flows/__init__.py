"""The Prefect flows: what happens to a window, in order."""
