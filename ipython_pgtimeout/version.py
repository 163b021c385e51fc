"""The version of this package, for what does not import all of it."""

__version__ = "0.1.0"
