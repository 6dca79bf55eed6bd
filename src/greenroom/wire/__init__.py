"""The one protocol that SDK, server, worker and agent speak: frames, messages, payloads, connections."""
