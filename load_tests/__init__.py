"""Load, timing and learning measurements over HTTP and the public interfaces."""
