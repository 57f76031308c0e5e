"""What a savefile is: its bytes in memory or on disk, what it says of itself, how captures become one."""
