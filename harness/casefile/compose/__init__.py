"""One case out of several texts: `include:` lays documents over each other, `matrix:` makes variants."""
