"""What is promised in figures, measured beside the seed's design and stock arq."""
