"""Names of files and folders."""


def slug(text: str) -> str:
    """A task's id as a file name."""
    return "".join(c if c.isalnum() or c in "-." else "_" for c in text).strip("_.") or "task"
