"""What `make bench` measures; each part prints a table and compares with a named peer of the same run."""
