"""The command: its verbs and how they print. No logic lives here."""
