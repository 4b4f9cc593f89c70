"""A human's word on a waiting candidate, over HTTP: what the dashboard's buttons ask."""
