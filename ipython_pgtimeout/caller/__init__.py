"""The code of the calling process: it prepares a command, reads its output and shows it. It sends no signals."""
