"""Every stored tensor, from files or from memory, and what is wrong in it."""
