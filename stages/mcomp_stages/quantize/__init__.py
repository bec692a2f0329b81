"""Stages that make numbers narrower."""
