STOP_REASONS: tuple[str, ...]
