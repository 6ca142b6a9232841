"""The survey of what loads: every architecture of transformers' auto classes, compared with transformers itself."""
