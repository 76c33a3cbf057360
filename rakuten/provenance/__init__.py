"""Questions about the past: what came from what, is it unchanged, can it be built again."""
