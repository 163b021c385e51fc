"""The command line: ``pgtimeout 30 make``, or ``python -m ipython_pgtimeout 30 make``.

``pgtimeout`` runs this file by its path and without Python's `site` module, see ``command_line/pgtimeout.sh``. Then the
package is made known here, without its ``__init__``: that imports all that a notebook needs.
"""

import sys

if not __package__:
    _directory = __file__.rpartition("/")[0]
    _package = type(sys)("ipython_pgtimeout")
    _package.__path__ = [_directory]
    sys.modules[_package.__name__] = _package
    sys.path.append(_directory.rpartition("/")[0])  # for psutil, where there is no proc(5)

from ipython_pgtimeout.command_line.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
