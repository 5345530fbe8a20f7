"""The windows that events must make, and those that changelog and stores hold."""
