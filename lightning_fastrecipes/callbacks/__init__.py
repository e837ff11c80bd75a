"""Callbacks, one public class a file."""
