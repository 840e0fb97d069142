"""The fixtures of a real service."""

from support.service import account, service, warehouse

__all__ = ["account", "service", "warehouse"]
