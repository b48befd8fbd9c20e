"""The HTTP API: route table, schemas, and handlers that decode, call the node, and encode."""
