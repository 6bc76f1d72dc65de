"""What a run will take, before it begins: trials, documents, memory, disk and, if asked, time."""
