"""Model packages behind HTTP: the endpoints, the batches of requests, and the limits of a server."""
