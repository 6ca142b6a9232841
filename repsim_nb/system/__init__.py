"""What depends on the machine: files, memory, progress, versions."""
