//! The node from outside: wire, HTTP, cluster and foreign clients.
