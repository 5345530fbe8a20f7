"""The serving path under load: users and catalogue, the load generator, the stack and its costs."""
