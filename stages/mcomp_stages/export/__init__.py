"""Stages that write the file that will be served."""
