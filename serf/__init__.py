"""The child process: applies events to nouns, and saves the image."""
