"""What config files of earlier versions import; see robertax.config.

Floor 0, beside no room.
"""

from robertax.config import take_arg
from robertax.errors import unknown

__all__ = ['take_arg', 'unknown']
