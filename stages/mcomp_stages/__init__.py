"""The built-in plugins: stages, methods, models, data and tasks, registered like anybody's."""
