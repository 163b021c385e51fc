"""The code of the helper processes, launcher and guard. Standard library only; nothing of the caller's side."""
