"""One command on many engines of an ipyparallel cluster (the extra ``parallel``)."""
