//! Sockets and nothing else: UDP batches, TCP, TLS, DNS.
