"""Human3.6M, as its owners give it out and as others pack it."""
