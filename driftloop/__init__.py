"""driftloop keeps a tabular model in production fresh."""

__version__ = "0.1.0"
