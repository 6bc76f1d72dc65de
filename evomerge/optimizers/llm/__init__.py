"""A language model proposes where to search next: what it reads, says, and how it is reached."""
