"""The audit log: who asked for what, and what was done."""
