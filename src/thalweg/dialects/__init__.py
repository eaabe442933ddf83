"""The API pages of other libraries, spelled exactly: import the one you want, for instance ``dialects.stride``."""
