"""Ready-made problems on top of the library: everything here could have been written by a user."""
