"""Asynchronous invocations: `faas.events.service.Events` runs them, the rest decides."""
