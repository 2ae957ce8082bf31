"""What config files of earlier versions import; see robertax.config."""

from robertax.config import defaults, with_arg

__all__ = ['defaults', 'with_arg']
