"""Mini-project 2: what graders import is in `Miniproject_2.model`."""
