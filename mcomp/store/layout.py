"""What lies where in the artifact of a step."""

MODEL, FILES, REPORT = "model", "files", "report.json"
