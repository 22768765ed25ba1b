"""One file per schema, `m0001` first."""
