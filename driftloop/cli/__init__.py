"""The command line: the outermost layer, the only one that knows library, flows and services."""
