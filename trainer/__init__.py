"""Train continually: score first, then learn, then publish. Read ``trainer/loop.py`` first."""
