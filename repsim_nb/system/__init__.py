"""Everything that depends on the machine: files, memory, progress, versions."""
