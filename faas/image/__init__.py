"""Builds what guests start from: the runtime's files, a kernel, a root file system."""
