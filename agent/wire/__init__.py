"""A FastCGI client that interleaves request ids and drives handlers on their own sockets."""
