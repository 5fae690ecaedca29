"""The console: what the platform knows, as pages for people. Asks the services behind the gateway, holds nothing itself.

`router()` has all of it, below /console; it finds the services and the keyring in the state of the app that it is mounted on.
"""

from services.gateway.console.routes import router

__all__ = ["router"]
