"""What both sides use: the caller, and its helper processes. Standard library only."""
