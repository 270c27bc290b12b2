"""YAML as data and places: a strict reader on top of PyYAML, with the line and column of every key and value."""
