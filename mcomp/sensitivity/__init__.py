"""What each part of a model costs alone: a stage says what can be tried, this measures it and keeps it."""
