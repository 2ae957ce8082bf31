"""Names that config files of earlier versions import. Floor 0."""

from robertax.config import take_arg
from robertax.errors import unknown

__all__ = ['take_arg', 'unknown']
