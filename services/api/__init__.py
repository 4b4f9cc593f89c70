"""The API that serves a loop's champion and takes over a new one without a restart."""
