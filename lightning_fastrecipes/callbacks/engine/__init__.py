"""What several callbacks share; imported by callbacks alone."""
