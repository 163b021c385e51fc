"""The magics. The only part of the package that needs IPython."""
