"""Results and process tables as text and HTML. Drawn on request: the engine loads nothing of it."""
