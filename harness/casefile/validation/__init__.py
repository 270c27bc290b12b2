"""Every error at once, each as file:line:column, in the words of the person who wrote the file."""
