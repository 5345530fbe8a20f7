"""The life of an event in a worker; read `streams.pipeline.pipeline` first."""
