"""The same job on other frameworks, as a competent user would write it: read job.py first."""
