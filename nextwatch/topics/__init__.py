"""`nextwatch topics`: what the cluster has, compared with what is wanted."""
