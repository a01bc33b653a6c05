"""Files: written whole or not at all, read without running code; what a training saves, and weights."""
