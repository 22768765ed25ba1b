"""What a person sees in the terminal: progress, notes, tables, and the sentences they are made of."""
