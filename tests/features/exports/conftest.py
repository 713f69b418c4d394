"""What exports are tested with."""
