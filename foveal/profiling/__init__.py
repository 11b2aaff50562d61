"""What a network costs, how it is timed, and on which machine."""
