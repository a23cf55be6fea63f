"""Starting trainings and watching them."""
