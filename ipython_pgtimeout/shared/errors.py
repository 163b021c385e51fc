"""Errors of the operating system in words."""

from __future__ import annotations


def describe_error(error: Exception) -> str:
    """``No such file or directory``, without number and path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
