"""What loads: every architecture of transformers' auto classes, built small and held against transformers itself."""
