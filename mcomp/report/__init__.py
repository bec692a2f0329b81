"""A ledger as a table, as JSON, and as one page."""
