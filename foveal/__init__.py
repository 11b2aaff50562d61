"""foveal: visual attention in PyTorch. Add it, see it, trust it, find out whether it pays.

The stub `__init__.pyi` lists the public names and where each lives. A name is imported when it is first used, so that
`import foveal` loads nothing heavy.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
