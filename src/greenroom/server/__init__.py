"""The server: one asyncio process that takes calls, decides how many containers there are, and routes inputs to them.

A call's way: ``peers.py`` (who speaks, what they may say) → ``calls.py`` (calls and inputs, and how they end) →
``pools.py`` (one queue and its containers) → ``containers.py`` (one container's life). ``core.py`` holds them together.
"""
