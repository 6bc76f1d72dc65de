"""What everything stands on: errors, safe files, tables, time limits, text safety, the machine."""
