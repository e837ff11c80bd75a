"""What a run learned, as one page; the labels that seem wrong, and how to mend them."""
