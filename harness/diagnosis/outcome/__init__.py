"""What a diagnosis says: its nouns, the paragraph, the regression case, the picture."""
