"""How a capture is made: a session on a live interface or on a recorder, alone or merged with others."""
