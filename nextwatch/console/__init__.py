"""The web application for viewers, creators and operators; read `console.py` first."""
