"""What experiments leave behind: records of evaluations and network weights."""
