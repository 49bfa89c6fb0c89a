"""Sessions of an application in Redis: the store, the service and the tools that move them."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("session-ops")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+source"
