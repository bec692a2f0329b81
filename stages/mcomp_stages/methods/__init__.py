"""The mathematics: plain functions and modules on tensors and graphs, no stage in sight."""
