"""What a person asked for, as plain values, and the one way in which it is done. Does not need Prefect."""
