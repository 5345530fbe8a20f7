"""Stay in native code while it is imported, as a module with extensions does."""

from tests.support.native_code import stay

stay()
