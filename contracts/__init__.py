"""The nouns and protocols every room agrees on. Standard library and numpy only."""
