"""The page of a viewer: a feed that follows what is watched."""
